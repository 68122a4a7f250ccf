"""Which runs are compared with each other: by variant and task, in an order that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pex_lightning.errors import printable
from pex_lightning.studies.outcomes import Outcome, RunKey, Unit, outcomes
from pex_lightning.studies.records import FoundRun
from pex_lightning.studies.table import collect


@dataclass(frozen=True)
class LeftOut:
    """A run that is not counted, and why."""

    folder: Path
    state: str
    reason: str


@dataclass(frozen=True)
class Compared:
    """Outcomes of finished runs, by variant and task.

    Attributes:
        frame: All metrics of the finished runs.
        variants: Names, in the order of the runs; with the study where there are several.
        tasks: Names, in the order of the runs.
        units: What a score is, for each task.
        found: Outcomes of each variant on each task, by seed.
        left_out: Runs that are not counted.
    """

    frame: pd.DataFrame
    variants: tuple[str, ...]
    tasks: tuple[str, ...]
    units: dict[str, Unit]
    found: dict[tuple[str, str], tuple[Outcome, ...]]
    left_out: tuple[LeftOut, ...]

    def of(self, variant: str, task: str) -> tuple[Outcome, ...]:
        """Outcomes of a variant on a task; empty if no run of it is finished."""
        return self.found.get((variant, task), ())

    def values(
        self, variant: str, tasks: Sequence[str], measure: Callable[[Outcome], float]
    ) -> list[NDArray[np.float64]]:
        """A measure's finite values, an array [seeds] for each task."""
        arrays = [np.array([measure(o) for o in self.of(variant, task)]) for task in tasks]
        return [array[np.isfinite(array)] for array in arrays]

    def complete(self) -> tuple[str, ...]:
        """Variants with a finished run on every task."""
        return tuple(v for v in self.variants if all(self.of(v, task) for task in self.tasks))

    def unit(self) -> Unit | None:
        """What all scores are, where scores of the tasks may be averaged; otherwise None.

        Returns of different tasks have different sizes, and are not averaged.
        """
        units = set(self.units.values())
        (unit,) = units if len(units) == 1 else (None,)
        return None if unit == "return" and len(self.tasks) > 1 else unit


def compare(
    runs: Sequence[FoundRun], frame: pd.DataFrame | None = None, threshold: float | None = None
) -> Compared:
    """Sort what came out of finished runs by variant and task.

    Args:
        runs: Runs of a study, or of several; those that are not finished are not counted.
        frame: Their metrics as `collect` gives them; without it they are read here.
        threshold: A score, for the environment steps to it.

    Raises:
        UserError: Two folders hold the same run.
    """
    finished = [run for run in runs if run.record.state == "finished"]
    frame = collect(finished) if frame is None else _rows_of(frame, finished)
    results = outcomes(frame, threshold)
    several = len({result.run.study for result in results}) > 1
    found: dict[tuple[str, str], list[Outcome]] = {}
    for result in results:
        found.setdefault((_variant(result.run, several), result.run.task), []).append(result)
    return Compared(
        frame,
        variants=tuple(dict.fromkeys(variant for variant, _ in found)),
        tasks=tuple(dict.fromkeys(task for _, task in found)),
        units={result.run.task: result.unit for result in results},
        found={key: tuple(of_key) for key, of_key in found.items()},
        left_out=tuple(_left_out(runs, [result.run for result in results])),
    )


def _variant(run: RunKey, several_studies: bool) -> str:
    return f"{run.study}: {run.variant}" if several_studies else run.variant


def _rows_of(frame: pd.DataFrame, runs: Sequence[FoundRun]) -> pd.DataFrame:
    """The rows of some of a table's runs."""
    known = {_key(run) for run in runs}
    rows = frame[["study", "variant", "task", "seed"]].drop_duplicates()
    mine = [RunKey(*row) in known or RunKey(*row)._replace(task="") in known for row in rows.values]
    return frame.merge(rows[mine])


def _key(run: FoundRun) -> RunKey:
    """How a table names a run, but for the task of one that belongs to no study."""
    study, variant, task = map(printable, (run.record.study, run.record.variant, run.record.task))
    return RunKey(study, variant, task, run.record.seed)


def _left_out(runs: Sequence[FoundRun], counted: Sequence[RunKey]) -> Iterator[LeftOut]:
    known = set(counted) | {run._replace(task="") for run in counted}
    for run in runs:
        if run.record.state != "finished":
            yield LeftOut(run.folder, run.record.state, run.record.reason or "")
        elif _key(run) not in known:
            yield LeftOut(run.folder, run.record.state, "it holds no evaluation")
