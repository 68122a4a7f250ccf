"""What came out of each run: its evaluations, and the numbers that sum them up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Unit = Literal["score", "success", "return"]
"""What a score is, in order of preference: the normalised score, the success rate in percent where
there is no reference for that, or else the undiscounted return of an episode."""

_METRICS: dict[str, Unit] = {f"eval/{unit}": unit for unit in get_args(Unit)}
_RUN = ["study", "variant", "task", "seed"]
_STAGES = ("offline", "online")


class RunKey(NamedTuple):
    """Which run it is."""

    study: str
    variant: str
    task: str
    seed: int


@dataclass(frozen=True)
class Curve:
    """The evaluations of one stage, E of them, in the order in which they were made.

    Attributes:
        steps: Gradient steps [E].
        env_steps: Environment steps [E]; zeros offline.
        scores: Mean over the episodes of an evaluation [E].
    """

    steps: NDArray[np.float64]
    env_steps: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of one run.

    Attributes:
        run: Which run it is.
        unit: What a score is; the same for all runs of a task.
        offline: Evaluations of the offline stage; empty if there was none.
        online: Evaluations of the online stage, the first one at the hand-over; empty if there was
            none.
    """

    run: RunKey
    unit: Unit
    offline: Curve
    online: Curve


@dataclass(frozen=True)
class Outcome:
    """What came out of one run. A number that a run does not have is NaN.

    Attributes:
        run: Which run it is.
        unit: What a score is.
        offline: Last score of the offline stage.
        lowest: Lowest score online, the one at the hand-over included.
        change: `lowest - offline`: how far the run fell below what it started from.
        final: Last score; of the offline stage if there was no other.
        area: Area under the online curve, as the mean score over environment steps from the
            hand-over to the last evaluation (trapezoids).
        regret: Mean, over the same environment steps, of the gap between the best score that any
            run of this task reached in any evaluation and the score: that best score minus
            `area`. It depends on which runs are compared.
        env_steps_to_threshold: Environment steps at the first online evaluation that was at or
            above the threshold; infinite if none was, NaN without a threshold.
        last_step: Gradient steps at the last evaluation of the last stage.
        last_env_steps: Environment steps at the last evaluation.
        online_evaluations: How many evaluations the online stage had.
    """

    run: RunKey
    unit: Unit
    offline: float
    lowest: float
    change: float
    final: float
    area: float
    regret: float
    env_steps_to_threshold: float
    last_step: float
    last_env_steps: float
    online_evaluations: int


def evaluations(frame: pd.DataFrame) -> list[Evaluations]:
    """The evaluations of each run of a table.

    Args:
        frame: As `table.collect` gives it.

    Returns:
        Runs in the table's order; those without any evaluation are left out. The unit is the first
        one that all of the runs of a task have, or else the return.
    """
    rows = frame[frame["metric"].isin(list(_METRICS))]
    found = []
    units = {str(task): _unit(of_task) for task, of_task in rows.groupby("task", sort=False)}
    for key, of_run in rows.groupby(_RUN, sort=False):
        run = RunKey(str(key[0]), str(key[1]), str(key[2]), int(key[3]))
        unit = units[run.task]
        of_unit = of_run[of_run["metric"] == f"eval/{unit}"]
        offline, online = (_curve(of_unit[of_unit["stage"] == s], unit) for s in _STAGES)
        if len(offline) or len(online):
            found.append(Evaluations(run, unit, offline, online))
    return found


def outcomes(
    runs: Sequence[Evaluations] | pd.DataFrame, threshold: float | None = None
) -> list[Outcome]:
    """What came out of each run.

    Args:
        runs: Runs that are compared, or the table of them.
        threshold: A score, in its unit, for `env_steps_to_threshold`.
    """
    if isinstance(runs, pd.DataFrame):
        runs = evaluations(runs)
    best: dict[str, float] = {}
    for run in runs:
        task, reached = run.run.task, [*run.offline.scores, *run.online.scores]
        finite = [float(score) for score in reached if math.isfinite(score)]
        best[task] = max([best.get(task, -math.inf), *finite])
    return [_outcome(run, best[run.run.task], threshold) for run in runs]


def mean_over_env_steps(curve: Curve) -> float:
    """Area under a curve divided by the environment steps that it spans; NaN if it is empty."""
    if not len(curve):
        return math.nan
    widths = np.diff(curve.env_steps)
    if widths.sum() == 0:
        return float(curve.scores.mean())
    heights = (curve.scores[1:] + curve.scores[:-1]) / 2
    return float((widths * heights).sum() / widths.sum())


def _outcome(run: Evaluations, best: float, threshold: float | None) -> Outcome:
    offline = float(run.offline.scores[-1]) if len(run.offline) else math.nan
    lowest = float(run.online.scores.min()) if len(run.online) else math.nan
    last = run.online if len(run.online) else run.offline
    area = mean_over_env_steps(run.online)
    return Outcome(
        run.run,
        run.unit,
        offline=offline,
        lowest=lowest,
        change=lowest - offline,
        final=float(last.scores[-1]),
        area=area,
        regret=best - area,
        env_steps_to_threshold=_env_steps_to(run.online, threshold),
        last_step=float(last.steps[-1]),
        last_env_steps=float(last.env_steps[-1]),
        online_evaluations=len(run.online),
    )


def _env_steps_to(curve: Curve, threshold: float | None) -> float:
    if threshold is None or not len(curve):
        return math.nan
    reached = curve.env_steps[curve.scores >= threshold]
    return float(reached[0]) if len(reached) else math.inf


def _unit(rows: pd.DataFrame) -> Unit:
    """The first unit that every run has."""
    runs = rows.drop_duplicates(_RUN).shape[0]
    for metric, unit in _METRICS.items():
        if rows[rows["metric"] == metric].drop_duplicates(_RUN).shape[0] == runs:
            return unit
    return "return"


def _curve(rows: pd.DataFrame, unit: Unit) -> Curve:
    rows = rows.sort_values("step", kind="stable")
    return Curve(
        rows["step"].to_numpy(dtype=np.float64),
        rows["env_steps"].to_numpy(dtype=np.float64, na_value=np.nan),
        rows["value"].to_numpy(dtype=np.float64) * (100 if unit == "success" else 1),
    )
