"""The iterable that hands chunks to Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pytorch_lightning import Trainer
from tensordict import TensorDictBase

from pex_lightning.data.schedule import chunk_updates


class ChunkLoader:
    """Hands out chunks until the trainer's ``max_steps``.

    Chunks start at multiples of ``chunk_size``, counted in gradient steps, and never cross a
    multiple of ``boundary`` or the end. What a chunk holds depends only on the step at which it
    starts, so that a resumed run sees what an uninterrupted one would have seen.

    It has a length and a state because Lightning otherwise fetches one chunk ahead, which a
    resumed run would skip.

    Args:
        make_chunk: Called with the gradient step and the number of updates ``K``; returns a chunk
            ``[K, B]``, or None to end training.
        trainer: Counts the gradient steps.
        chunk_size: Largest number of updates in a chunk.
        boundary: Number of gradient steps that every chunk has to respect, or None.
    """

    def __init__(
        self,
        make_chunk: Callable[[int, int], TensorDictBase | None],
        trainer: Trainer,
        chunk_size: int,
        boundary: int | None = None,
    ) -> None:
        self._make_chunk = make_chunk
        self._trainer = trainer
        self._chunk_size = chunk_size
        self._boundary = boundary

    def __len__(self) -> int:
        """An upper bound: training ends at the trainer's ``max_steps``."""
        return self._trainer.max_steps

    def __iter__(self) -> Iterator[TensorDictBase]:
        while (updates := self._next_updates()) > 0:
            chunk = self._make_chunk(self._trainer.global_step, updates)
            if chunk is None:
                return
            yield chunk

    def state_dict(self) -> dict[str, Any]:
        """Where the next chunk starts."""
        return {"gradient_steps": self._trainer.global_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do: the trainer's step says all; present so that Lightning does not skip."""

    def _next_updates(self) -> int:
        trainer = self._trainer
        return chunk_updates(
            trainer.global_step, trainer.max_steps, self._chunk_size, self._boundary
        )
