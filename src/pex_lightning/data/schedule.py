"""The schedule of chunks: where chunks of updates end."""

from __future__ import annotations

from dataclasses import dataclass

from pex_lightning.errors import check_range
from pex_lightning.policies.schedule import progress


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


@dataclass(frozen=True)
class OfflineShare:
    """The share of offline rows in a batch, constant or annealed.

    Attributes:
        start: The share at first.
        end: Where it goes linearly; None if it stays.
        steps: Gradient steps on the way there.

    Raises:
        UserError: A value is outside of its range.
    """

    start: float
    end: float | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        for flag, share in (("", self.start), ("_end", self.end)):
            fits = share is None or 0.0 <= share <= 1.0
            check_range(f"--data.offline_fraction{flag}", share, fits, "between 0 and 1")
        check_range("--data.offline_fraction_steps", self.steps, self.steps >= 0, "0 or more")

    def at(self, step: int) -> float:
        """The share after `step` gradient steps."""
        if self.end is None:
            return self.start
        return self.start + progress(step, self.steps) * (self.end - self.start)


def unwatched(done: int, needed: int) -> None:
    """Stands for whoever wants to know how far a long collection is."""
