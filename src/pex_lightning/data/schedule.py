"""Schedules in gradient steps: where chunks end, and which environment steps are due when."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from pex_lightning.errors import UserError, check_range
from pex_lightning.policies.schedule import progress


@dataclass(frozen=True)
class Interval:
    """When something is due: every so many gradient steps, counted from some step.

    Attributes:
        every: Gradient steps from one time to the next.
        start: Where counting begins, which may be before the first update; nothing is due there.
    """

    every: int
    start: int = 0

    def due(self, step: int) -> bool:
        """Whether it is due after `step` gradient steps."""
        return step > self.start and (step - self.start) % self.every == 0

    def next_after(self, step: int) -> int:
        """The first gradient step after `step` at which it is due."""
        done = max(0, step - self.start)
        return self.start + (done // self.every + 1) * self.every

    def times_left(self, step: int, end: int) -> int:
        """How often it is due after `step`, if it is also due at `end`, later than `step`."""
        last = end - 1
        return 1 + (self.next_after(last) - self.next_after(step)) // self.every


_LEAST_RATIO, _MOST_RATIO = 1e-6, 1e6
_DIGITS = 6
"""To which products are rounded: 3,000 · 1.1 is above 3,300 in floating point."""


@dataclass(frozen=True)
class Alternation:
    """How environment steps and updates alternate.

    Before update g there are `start_steps + max(0, g - initial_updates) / updates_per_step`
    environment steps, over all processes of the learner, each of which takes its share of them,
    rounded up to whole steps.

    Attributes:
        start_steps: Environment steps before the first update.
        initial_updates: Gradient steps before the environment is stepped further.
        updates_per_step: Gradient steps for each environment step from then on.
        max_env_steps: Environment steps with which the stage ends, unless None.

    Raises:
        UserError: A value is outside of its range.
    """

    start_steps: int
    initial_updates: int
    updates_per_step: float
    max_env_steps: int | None = None

    def __post_init__(self) -> None:
        start, initial, ratio = self.start_steps, self.initial_updates, self.updates_per_step
        in_range = _LEAST_RATIO <= ratio <= _MOST_RATIO
        wanted = f"between {_LEAST_RATIO:f} and {_MOST_RATIO:,.0f}"
        check_range("--data.updates_per_step", ratio, in_range, wanted)
        check_range("--data.start_steps", start, start > 0, "above 0")
        check_range("--data.initial_updates", initial, initial >= 0, "0 or more")
        most = self.max_env_steps
        wanted = f"more than the {start:,} of --data.start_steps"
        check_range("--data.max_env_steps", most, most is None or most > start, wanted)

    def env_steps(self, updates: int) -> float:
        """Environment steps that are due before update `updates` is done."""
        later = max(0, updates - self.initial_updates) / self.updates_per_step
        return self.start_steps + round(later, _DIGITS)

    def end(self, max_steps: int) -> int:
        """Gradient steps with which the stage ends: the first of two limits, -1 being none.

        These are the fewest for which `max_env_steps` are due. A ratio below 1 has several
        environment steps come with an update, so that some more than these may be due.
        """
        if self.max_env_steps is None:
            return max_steps
        later = (self.max_env_steps - self.start_steps) * self.updates_per_step
        later = math.ceil(round(later, _DIGITS))
        return min(self.initial_updates + later, max_steps if max_steps != -1 else sys.maxsize)

    def of_a_trial(self) -> Alternation:
        """The same with one environment step before the first update, and without an end."""
        return replace(self, start_steps=1, max_env_steps=None)

    def check_end(self, max_steps: int) -> None:
        """Refuse a trainer that would go on after `max_env_steps`.

        Raises:
            UserError: It would; names the gradient steps that it should have.
        """
        if self.end(max_steps) != max_steps:
            raise UserError(
                f"the Trainer has max_steps={max_steps}, but the data's max_env_steps="
                f"{self.max_env_steps} end the stage before that. Give it "
                f"max_steps={self.end(max_steps)}, or use pex_lightning.train."
            )

    def interval(self, env_steps: int) -> Interval:
        """Due at multiples of so many environment steps, those before the first update included.

        Raises:
            UserError: Not each of these multiples has a gradient step of its own.
        """
        every = round(env_steps * self.updates_per_step, _DIGITS)
        since = round(self.start_steps % env_steps * self.updates_per_step, _DIGITS)
        if every % 1 or since % 1:
            raise UserError(
                f"--evaluation.every_env_steps is {env_steps}; with --data.updates_per_step "
                f"{self.updates_per_step:g} and --data.start_steps {self.start_steps} its "
                "multiples lie between two gradient steps. Change one of the three, or give "
                "--evaluation.every instead."
            )
        return Interval(int(every), self.initial_updates - int(since))


def chunk_updates(step: int, end: int, chunk_size: int, boundary: Interval | None) -> int:
    """The number of updates in the chunk that begins at `step`; 0 or less at the end.

    Chunks end at multiples of `chunk_size`, where `boundary` is due, and at `end`.

    Args:
        step: Gradient steps before the chunk.
        end: Gradient steps of the whole stage.
        chunk_size: Largest number of updates in a chunk.
        boundary: When something is due between chunks, or None.
    """
    updates = chunk_size - step % chunk_size
    if boundary is not None:
        updates = min(updates, boundary.next_after(step) - step)
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
