"""How the online stage mixes offline rows with what it collects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import ReplayBuffer

from pex_lightning.data.schedule import OfflineShare
from pex_lightning.errors import UserError, check_range, in_one_line
from pex_lightning.replay.balanced import BalancedReplay
from pex_lightning.replay.mix import sample_chunk
from pex_lightning.replay.store import damaged

Mix = Literal["fixed", "balanced"]


class Mixing:
    """A fixed or annealed share of offline rows, or balanced replay.

    Args:
        mix: `fixed` or `balanced`.
        share: The share of offline rows; with `balanced` its start alone counts.

    Raises:
        UserError: A value is outside of its range, or two do not go together.
    """

    def __init__(self, mix: Mix, share: OfflineShare) -> None:
        known = get_args(Mix)
        check_range("--data.mix", mix, mix in known, " or ".join(known))
        if mix == "balanced":
            expected = "above 0 and below 1 with --data.mix balanced"
            check_range("--data.offline_fraction", share.start, 0 < share.start < 1, expected)
            if share.end is not None:
                raise UserError(
                    "--data.offline_fraction_end is given, but with --data.mix balanced the share "
                    "of offline rows follows from what is learnt. Leave it out, or give "
                    "--data.mix fixed."
                )
        self._mix: Mix = mix
        self._share = share
        self._offline: ReplayBuffer | None = None
        self._batch_size = 0
        self._balanced: BalancedReplay | None = None

    def begin(
        self,
        offline: ReplayBuffer,
        capacity: int,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Prepare to draw, unless that is done.

        Args:
            offline: The dataset.
            capacity: Rows of the ring buffer.
            batch_size: Rows per batch.
            seed: Seed of what balanced replay learns.
            device: Where it learns.
        """
        self._offline, self._batch_size = offline, batch_size
        if self._mix == "balanced" and self._balanced is None:
            self._balanced = BalancedReplay(offline, capacity, self._share.start, seed, device)

    def added(self, places: Tensor) -> None:
        """Rows were written to these places of the ring buffer."""
        if self._balanced is not None:
            self._balanced.added(places)

    def draw(self, online: ReplayBuffer, step: int, updates: int, seed: int) -> TensorDictBase:
        """Draw a chunk `[updates, batch_size]`; call `begin` first.

        Args:
            online: What was collected.
            step: Gradient steps so far.
            updates: Number of batches.
            seed: Random seed.
        """
        size = self._batch_size
        if self._balanced is not None:
            return self._balanced.draw(online, updates=updates, batch_size=size, seed=seed)
        assert self._offline is not None, "draw() before begin()"
        return sample_chunk(
            self._offline,
            online,
            updates=updates,
            batch_size=size,
            offline_fraction=self._share.at(step),
            seed=seed,
        )

    def state(self, places: Tensor) -> dict[str, Any] | None:
        """What a resume needs of this process, tensors and primitives; None if nothing.

        Args:
            places: Where the ring buffer's rows lie, in the order in which they were collected.
        """
        return None if self._balanced is None else self._balanced.state_dict(places)

    def load(self, states: object, rank: int, rows: int, path: Path) -> None:
        """Go on from `state`; call `begin` first.

        Args:
            states: The states of all processes; None in checkpoints of before there was a choice.
            rank: Which of them is this one's.
            rows: Rows in the ring buffer, which begin at its first place.
            path: The checkpoint, for error messages.

        Raises:
            UserError: The checkpoint is of another mix, or what it holds is damaged.
        """
        try:
            mine: Any = None if states is None else states[rank]  # type: ignore[index]
            written: Mix = "fixed" if mine is None else "balanced"
            if written != self._mix:
                raise UserError(
                    f"--data.mix is {self._mix}, but {path} was written with {written}. Resume "
                    f"with --data.mix {written}."
                )
            if self._balanced is not None:
                self._balanced.load_state_dict(mine, rows)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(path, f"its priorities cannot be read ({in_one_line(error)})") from error
