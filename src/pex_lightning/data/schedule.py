"""The schedule of chunks: where chunks of updates end."""

from __future__ import annotations


def chunk_updates(step: int, end: int, chunk_size: int, boundary: int | None) -> int:
    """The number of updates in the chunk that begins at `step`; 0 or less at the end.

    Chunks end at multiples of `chunk_size`, at multiples of `boundary` and at `end`.

    Args:
        step: Gradient steps before the chunk.
        end: Gradient steps of the whole stage.
        chunk_size: Largest number of updates in a chunk.
        boundary: Number of gradient steps, or None.
    """
    updates = chunk_size - step % chunk_size
    if boundary:
        updates = min(updates, boundary - step % boundary)
    return min(updates, end - step)
