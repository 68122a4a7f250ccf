"""The data loader that yields chunks of batches to Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pytorch_lightning import Trainer
from tensordict import TensorDictBase

from pex_lightning.data.schedule import Interval, chunk_updates


class ChunkLoader:
    """Yields chunks until the trainer's `max_steps`.

    No chunk crosses a multiple of `chunk_size`, a step at which `boundary` is due, or the end. The
    size of a chunk depends only on the step at which it starts, so a resumed run has the same
    chunks as an uninterrupted one.

    Without a length and a state, Lightning would fetch one chunk ahead, which a resumed run skips.

    Args:
        make_chunk: Called with the gradient step and the number of updates `K`; returns a chunk
            `[K, B]`, or None to end training.
        trainer: Provides the number of gradient steps so far.
        chunk_size: Largest number of updates in a chunk.
        boundary: Chunks also end when it is due, unless None.
    """

    def __init__(
        self,
        make_chunk: Callable[[int, int], TensorDictBase | None],
        trainer: Trainer,
        chunk_size: int,
        boundary: Interval | None = None,
    ) -> None:
        self._make_chunk = make_chunk
        self._trainer = trainer
        self._chunk_size = chunk_size
        self._boundary = boundary

    def __len__(self) -> int:
        """An upper bound: training ends at the trainer's `max_steps`."""
        return self._trainer.max_steps

    def __iter__(self) -> Iterator[TensorDictBase]:
        while (updates := self._next_updates()) > 0:
            chunk = self._make_chunk(self._trainer.global_step, updates)
            if chunk is None:
                return
            yield chunk

    def state_dict(self) -> dict[str, Any]:
        """The gradient step at which the next chunk starts."""
        return {"gradient_steps": self._trainer.global_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the trainer has the step. Without this Lightning would skip a chunk."""

    def _next_updates(self) -> int:
        trainer = self._trainer
        return chunk_updates(
            trainer.global_step, trainer.max_steps, self._chunk_size, self._boundary
        )
