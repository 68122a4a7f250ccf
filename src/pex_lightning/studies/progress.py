"""How far the runs of a study are, and how long they will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pex_lightning.callbacks.durations import duration
from pex_lightning.callbacks.status import StageStatus, read_status
from pex_lightning.studies.plan import PlannedRun


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        stage: `offline`, `online` or, before both, `starting`.
        share: Part of its updates that is done, in [0, 1].
        status: The status of its stage; None while it starts.
    """

    stage: str
    share: float
    status: StageStatus | None


def progress(run: PlannedRun) -> RunProgress:
    """Read how far a run is from the files in its folder."""
    shape = run.shape
    total = max(1, shape.offline_steps + shape.online_steps)
    online = read_status(run.folder / "online")
    if online is not None:
        # A stage that was taken from another run has no status.
        done = shape.offline_steps + min(online.gradient_steps, shape.online_steps)
        return RunProgress("online", done / total, online)
    offline = read_status(run.folder / "offline")
    if offline is not None:
        return RunProgress("offline", min(offline.gradient_steps, total) / total, offline)
    return RunProgress("starting", 0.0, None)


def at_this_pace(run: PlannedRun, status: StageStatus | None) -> float | None:
    """Seconds that all updates of a run take, with evaluations, as those done so far did.

    What comes once, before the first chunk of updates, is left out; None until the second one.

    Args:
        run: The run.
        status: The status of its stage.
    """
    if status is None or status.seconds_per_update is None:
        return None
    evaluating = status.evaluation_seconds / (status.gradient_steps - status.first_step)
    updates = run.shape.offline_steps + run.shape.online_steps
    return updates * (status.seconds_per_update + evaluating)


def _like_it(run: PlannedRun) -> float | None:
    """Seconds that another run takes at this one's pace, with what comes once; None as above."""
    status = progress(run).status
    updates = at_this_pace(run, status)
    return None if status is None or updates is None else status.start_seconds + updates


class Durations:
    """What runs took, to say what others will take.

    Args:
        estimates: Seconds of a run of each (variant, task), from a measurement; may be empty.
    """

    def __init__(self, estimates: Mapping[tuple[str, str], float] | None = None) -> None:
        self._estimates = dict(estimates or {})
        self._taken: dict[tuple[str, str], list[float]] = {}

    def add(self, run: PlannedRun) -> None:
        """Learn from a run that has finished."""
        key = run.record.variant, run.record.task
        self._taken.setdefault(key, []).append(run.record.seconds)

    def of(self, run: PlannedRun) -> float | None:
        """Seconds that a run will take; None as long as nothing is known."""
        key = run.record.variant, run.record.task
        if key in self._taken:
            return fmean(self._taken[key])
        if key in self._estimates:
            return self._estimates[key]
        everything = [seconds for taken in self._taken.values() for seconds in taken]
        return fmean(everything) if everything else None

    def left_of(self, run: PlannedRun) -> float | None:
        """Seconds that a run still takes, from others like it or else from its own pace."""
        whole, now = self.of(run), progress(run)
        if whole is None:
            whole = at_this_pace(run, now.status)
        return None if whole is None else whole * (1 - now.share)

    def left(
        self, waiting: Sequence[PlannedRun], running: Sequence[PlannedRun], jobs: int
    ) -> float | None:
        """Seconds until all have ended, if `jobs` run at a time; None if nothing is known."""
        paces = [pace for run in running if (pace := _like_it(run)) is not None]
        pace = fmean(paces) if paces else None
        parts = [whole if (whole := self.of(run)) is not None else pace for run in waiting]
        parts += [self.left_of(run) for run in running]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return max(sum(known) / max(1, jobs), max(known, default=0.0))


def duration_text(seconds: float | None) -> str:
    """Seconds in words; `?` if they are not known."""
    return "?" if seconds is None else duration(seconds)
