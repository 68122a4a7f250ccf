"""Notices that training has diverged: a loss that is NaN or infinite."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pex_lightning.errors import UserError
from pex_lightning.updates.batch import TERM, Diagnostics


class LossWatch:
    """Keeps the losses of the last update of a chunk until somebody may look at them.

    Reading a number from a GPU waits for all of its work. So the losses are copied to the host
    beside that work, and are looked at before the next chunk, when they have long arrived.
    Parameters that are not finite make every later loss not finite too.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._losses: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None
        self._chunk: TensorDictBase | None = None
        self._step = 0

    def keep(self, results: Diagnostics, chunk: TensorDictBase, step: int) -> Diagnostics:
        """Keep the losses among the results of the update `step`; returns the diagnostics alone.

        Args:
            results: What an update gave back, see `Losses.results`.
            chunk: What it learnt from.
            step: Number of updates so far.
        """
        self._names = [name for name in results if name.startswith(TERM)]
        self._chunk, self._step = chunk, step
        losses = torch.stack([results[name] for name in self._names])
        on_cuda = losses.device.type == "cuda"
        self._losses = torch.empty_like(losses, device="cpu", pin_memory=on_cuda)
        self._losses.copy_(losses, non_blocking=True)
        if on_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        return {name: value for name, value in results.items() if not name.startswith(TERM)}

    def check(self) -> None:
        """Look at what was kept.

        Raises:
            UserError: A loss is NaN or infinite; names it, the update, and the largest reward and
                observation that the chunk had.
        """
        if self._losses is None:
            return
        if self._arrived is not None:
            self._arrived.synchronize()
        finite = torch.isfinite(self._losses)
        if finite.all():
            return
        assert self._chunk is not None
        bad = [
            name.removeprefix(TERM)
            for name, fine in zip(self._names, finite, strict=True)
            if not fine
        ]
        largest = {
            name: float(self._chunk.get(key).abs().max())
            for name, key in (("reward", ("next", "reward")), ("observation", "observation"))
        }
        raise UserError(
            f"training has diverged: the loss of {', '.join(bad)} is not finite at update "
            f"{self._step:,}. Up to {self._chunk.shape[0]} updates before it may be bad too; "
            "checkpoints are finite. The largest numbers that it learnt from then: "
            + ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
            + ". Go on with --ckpt_path last and a smaller --model.learning_rate or a "
            "--model.gradient_clip_val, or scale rewards and observations."
        )
