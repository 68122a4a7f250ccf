"""What runs have reached, grouped by task and variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pex_lightning.report.drawing import Floats, Series, series_of
from pex_lightning.report.reading import Run
from pex_lightning.studies.outcomes import Evaluations, Outcome, RunKey, evaluations, outcomes
from pex_lightning.studies.statistics import Estimate

UNITS = {"score": "score", "success": "success in %", "return": "return"}


@dataclass(frozen=True)
class Results:
    """Evaluations and outcomes of the runs, grouped.

    Attributes:
        tasks: In the order of the runs.
        variants: In the order of the runs.
        evaluations: By task and variant.
        outcomes: Of finished runs, by task and variant.
        look: A variant's colour, dash and mark, the same in every figure.
    """

    tasks: tuple[str, ...]
    variants: tuple[str, ...]
    evaluations: Mapping[tuple[str, str], Sequence[Evaluations]]
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]]
    look: Mapping[str, Series]

    def unit(self, task: str) -> str:
        """What a score of the task is."""
        return next(
            (UNITS[e.unit] for (t, _), es in self.evaluations.items() if t == task for e in es),
            "score",
        )

    @property
    def comparable(self) -> bool:
        """Whether scores of all tasks have the same unit."""
        return len(self.tasks) == 1 or all(
            self.unit(task) != UNITS["return"] for task in self.tasks
        )

    def complete(self) -> tuple[str, ...]:
        """Variants with a finished run on every task."""
        return tuple(
            variant
            for variant in self.variants
            if all((task, variant) in self.outcomes for task in self.tasks)
        )

    def incomplete(self) -> list[str]:
        """A sentence about the other variants where there are several tasks, if there are any."""
        complete = self.complete()
        others = ", ".join(variant for variant in self.variants if variant not in complete)
        if not others or len(self.tasks) == 1:
            return []
        return [f"Without a finished run on every task, so not averaged over tasks: {others}."]

    def final(self, variant: str) -> list[Floats]:
        """Finite final scores of a variant, an array [seeds] for each task."""
        scores = [
            np.array([outcome.final for outcome in self.outcomes.get((task, variant), ())])
            for task in self.tasks
        ]
        return [of_task[np.isfinite(of_task)] for of_task in scores]


def results_of(
    evaluations: Sequence[Evaluations], outcomes: Sequence[Outcome], names: Mapping[RunKey, str]
) -> Results:
    """Group evaluations of all runs, and outcomes of those that are finished.

    Args:
        evaluations: Of all runs.
        outcomes: Of the runs that are finished.
        names: What the variants of the runs are called.
    """
    evaluated: dict[tuple[str, str], list[Evaluations]] = {}
    came_out: dict[tuple[str, str], list[Outcome]] = {}
    for one in evaluations:
        evaluated.setdefault((one.run.task, names[one.run]), []).append(one)
    for outcome in outcomes:
        came_out.setdefault((outcome.run.task, names[outcome.run]), []).append(outcome)
    tasks = tuple(dict.fromkeys(task for task, _ in evaluated))
    variants = tuple(dict.fromkeys(variant for _, variant in evaluated))
    return Results(tasks, variants, evaluated, came_out, series_of(variants))


def compared(
    runs: Sequence[Run], names: Mapping[int, str], frame: pd.DataFrame, threshold: float | None
) -> Results | None:
    """What the runs have reached; None if none was evaluated.

    Args:
        runs: The runs.
        names: What their variants are called, by `id(run)`.
        frame: All of their metrics.
        threshold: A score for the number of environment steps until it is reached.
    """
    evaluated = evaluations(frame)
    if not evaluated:
        return None
    keys = {_key(run): run for run in runs}
    called = {key: names[id(run)] for key, run in keys.items()}
    finished = [one for one in evaluated if keys[one.run].record.state == "finished"]
    return results_of(evaluated, outcomes(finished, threshold), called)


def _key(run: Run) -> RunKey:
    record = run.record
    return RunKey(record.study, record.variant, record.task, record.seed)


def number(value: float) -> str:
    """Three digits, or all of those before the point."""
    if not math.isfinite(value):
        return "never" if value == math.inf else "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(estimate: Estimate) -> str:
    """In brackets with a space before, or nothing."""
    if not estimate.has_interval:
        return ""
    return f" [{number(estimate.low)}, {number(estimate.high)}]"
