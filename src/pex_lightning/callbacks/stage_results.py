"""What the `metrics.csv` of a stage says of its evaluations and of who acted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pex_lightning.callbacks.csv_logger import parse_log
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.evaluation.intervals import Estimate, of_mean, of_rate

_SHARE = "_policy_share"
_SPREAD = "eval/return_std"


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a stage.

    Attributes:
        step: Gradient steps.
        env_steps: Environment steps.
        score: The normalised score, or the undiscounted return where there is none.
        success: Success rate, 0 to 1; None if the environment does not report it.
    """

    step: int
    env_steps: int
    score: Estimate
    success: Estimate | None


@dataclass(frozen=True)
class StageResults:
    """What a stage left in its `metrics.csv`.

    Attributes:
        unit: `score` or `return`.
        evaluations: In the order of their steps.
        shares: How often each member acted in the first and in the last report, 0 to 1.
        seconds: Wall time of training and evaluation, of all processes one after the other; None
            if it was not measured.
    """

    unit: str
    evaluations: tuple[Evaluated, ...]
    shares: Mapping[str, tuple[float, float]]
    seconds: float | None

    @property
    def best(self) -> Evaluated:
        """The one of `best.ckpt`: of equally good ones the latest."""
        return max(self.evaluations, key=lambda found: (found.score.value, found.step))

    @property
    def lowest(self) -> Evaluated:
        """The first of the lowest ones."""
        return min(self.evaluations, key=lambda found: (found.score.value, found.step))


def stage_results(stage: Path, episodes: int, until: int | None = None) -> StageResults:
    """Read the `metrics.csv` of a stage's folder; one that is not there has no evaluations.

    Args:
        stage: The folder.
        episodes: Episodes of an evaluation, where the file does not say it.
        until: Leave out what is later than this gradient step.
    """
    try:
        columns, rows, _ = parse_log((stage / "metrics.csv").read_bytes())
    except OSError:
        columns, rows = [], []
    if until is not None:
        rows = [row for row in rows if int(row["step"]) <= until]
    unit = "score" if "eval/score" in columns else "return"
    found = [_evaluated(row, unit, episodes) for row in rows]
    shares = {}
    for column in columns:
        if column.startswith("train/") and column.endswith(_SHARE):
            known = [value for row in rows if math.isfinite(value := _number(row, column))]
            if known:
                shares[column[len("train/") : -len(_SHARE)]] = (known[0], known[-1])
    seconds = [value for row in rows if math.isfinite(value := _number(row, "seconds"))]
    evaluations = tuple(one for one in found if one is not None)
    return StageResults(unit, evaluations, shares, seconds[-1] if seconds else None)


def _evaluated(row: Mapping[str, str], unit: str, episodes: int) -> Evaluated | None:
    value, mean = _number(row, f"eval/{unit}"), _number(row, "eval/return")
    if not math.isfinite(value):
        return None
    counted = _number(row, "eval/episodes")
    # Runs of earlier versions did not log it.
    episodes = int(counted) if counted >= 1 else episodes
    rate = _number(row, "eval/success")
    success = of_rate(rate, episodes) if 0.0 <= rate <= 1.0 else None
    reference = score_reference(row.get("env", "")) if unit == "score" else None
    factor = 1.0 if reference is None else reference.score(1.0) - reference.score(0.0)
    shift = 0.0 if reference is None else reference.score(0.0)
    spread = _number(row, _SPREAD)
    if success is not None and math.isclose(mean, rate, abs_tol=1e-9):
        # A return that is 1 for a success and else 0.
        score = success.scaled(factor, shift)
    elif math.isfinite(spread):
        score = of_mean(mean, spread, episodes).scaled(factor, shift)
    else:
        score = Estimate(value)
    env_steps = _number(row, "env_steps")
    known = int(env_steps) if math.isfinite(env_steps) else 0
    return Evaluated(int(row["step"]), known, score, success)


def _number(row: Mapping[str, str], column: str) -> float:
    """A cell; NaN if it is empty, missing or none."""
    try:
        return float(row.get(column, ""))
    except ValueError:
        return math.nan
