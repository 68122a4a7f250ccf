"""Estimates over seeds and tasks with intervals: Agarwal et al. 2021, arXiv 2108.13264.

Runs are the unit of replication: a score is one number a run, and the scores of a variant are one
array [seeds] for each task. Numbers of seeds may differ between tasks, since runs fail: all runs
count equally, so that a task with fewer runs counts for less in what is pooled over tasks. In the
probability of improvement tasks count equally.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPLICATIONS = 2_000
CONFIDENCE = 0.95

Array = NDArray[np.float64]
Scores = Sequence[ArrayLike]
"""Scores of one variant: an array [seeds] for each task."""
Statistic = Callable[[Array], Array]
"""From [..., runs] to [...]."""


@dataclass(frozen=True)
class Estimate:
    """A number with the percentile interval of a bootstrap.

    Attributes:
        value: The estimate from the runs themselves; NaN where there are none.
        low: Lower end of the 95 % interval. NaN where a task has a single seed: how seeds differ
            on that task is not known then.
        high: Its upper end; NaN in the same cases.
        seeds: Smallest number of seeds of a task.
        runs: Number of runs.
    """

    value: float
    low: float
    high: float
    seeds: int
    runs: int

    @property
    def has_interval(self) -> bool:
        """Whether an interval is given."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class Profile:
    """A performance profile.

    Attributes:
        taus: Thresholds [T], in units of the score.
        share: Share of runs with a score above each threshold [T].
        low: Lower ends of pointwise 95 % intervals [T]; NaN where a task has a single seed.
        high: Their upper ends [T].
    """

    taus: Array
    share: Array
    low: Array
    high: Array


def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean: the mean without the lowest and the highest quarter (section 4.3).

    Of N scores, the ⌊N/4⌋ lowest and as many highest are left out, as SciPy's `trim_mean` does.

    Args:
        scores: [..., N], N at least 1.

    Returns:
        [...].
    """
    values = np.sort(np.asarray(scores, dtype=np.float64), axis=-1)
    count = values.shape[-1]
    cut = count // 4
    return np.asarray(values[..., cut : count - cut].mean(axis=-1))


def stratified_bootstrap(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    replications: int = REPLICATIONS,
    seed: int = 0,
) -> Estimate:
    """Estimate a statistic over the runs of all tasks, with a 95 % interval (section 4.1).

    Each replication draws, for each task, as many of its runs as it has, with replacement; the
    interval lies between the percentiles 2.5 and 97.5 of the replications. Tasks are not drawn.

    Args:
        scores: An array [seeds] for each task; tasks without a run are left out.
        statistic: What is estimated, of the runs of all tasks together.
        replications: Number of bootstrap replications.
        seed: Seed of the bootstrap; the same one gives the same interval.
    """
    tasks = _tasks(scores)
    if not tasks:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    value = float(statistic(np.concatenate(tasks)))
    low = high = np.asarray(math.nan)
    if _replicated(tasks):
        rng = np.random.default_rng(seed)
        drawn = [task[rng.integers(len(task), size=(replications, len(task)))] for task in tasks]
        low, high = _interval(statistic(np.concatenate(drawn, axis=1)))
    return Estimate(value, float(low), float(high), *_sizes(tasks))


def probability_of_improvement(
    x: Scores, y: Scores, *, replications: int = REPLICATIONS, seed: int = 0
) -> Estimate:
    """Probability that a run of X scores higher than a run of Y on the same task (section 4.3).

    For each task it is the share of pairs in which X is above Y, ties counting half (the
    Mann-Whitney statistic); then the mean over the tasks. The bootstrap draws runs of X and of Y
    independently of each other.

    Args:
        x: Scores of X, an array [seeds] for each task.
        y: Scores of Y on the same tasks in the same order; the numbers of seeds may differ. Tasks
            without a run of either are left out.
        replications: Number of bootstrap replications.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: X and Y have different numbers of tasks.
    """
    pairs = [
        (np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
        for a, b in zip(x, y, strict=True)
    ]
    pairs = [(a, b) for a, b in pairs if a.size and b.size]
    if not pairs:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    above = [(a[:, None] > b) + 0.5 * (a[:, None] == b) for a, b in pairs]
    value = float(np.mean([task.mean() for task in above]))
    everything = [task for pair in pairs for task in pair]
    low = high = np.asarray(math.nan)
    if _replicated(everything):
        rng = np.random.default_rng(seed)
        replicated = [
            np.einsum(
                "rx,xy,ry->r",
                _drawn_shares(rng, task.shape[0], replications),
                task,
                _drawn_shares(rng, task.shape[1], replications),
                optimize=True,
            )
            for task in above
        ]
        low, high = _interval(np.mean(replicated, axis=0))
    return Estimate(value, float(low), float(high), *_sizes(everything))


def performance_profile(
    scores: Scores, taus: ArrayLike, *, replications: int = REPLICATIONS, seed: int = 0
) -> Profile:
    """Share of runs whose score is above each of several thresholds (section 4.2).

    Args:
        scores: An array [seeds] for each task, with at least one run.
        taus: Thresholds [T].
        replications: Number of bootstrap replications.
        seed: Seed of the bootstrap.
    """
    tasks = _tasks(scores)
    thresholds = np.asarray(taus, dtype=np.float64)
    above = [(task[:, None] > thresholds).astype(np.float64) for task in tasks]
    runs = sum(len(task) for task in tasks)
    share = sum(task.sum(axis=0) for task in above) / runs
    low = high = np.full_like(thresholds, math.nan)
    if _replicated(tasks):
        rng = np.random.default_rng(seed)
        replicated = sum(
            len(task) * _drawn_shares(rng, len(task), replications) @ task for task in above
        )
        low, high = _interval(np.asarray(replicated) / runs)
    return Profile(thresholds, np.asarray(share), low, high)


def _tasks(scores: Scores) -> list[Array]:
    tasks = [np.asarray(task, dtype=np.float64) for task in scores]
    return [task for task in tasks if task.size]


def _replicated(tasks: Sequence[Array]) -> bool:
    return min(len(task) for task in tasks) > 1


def _sizes(tasks: Sequence[Array]) -> tuple[int, int]:
    return min(len(task) for task in tasks), sum(len(task) for task in tasks)


def _drawn_shares(rng: np.random.Generator, runs: int, replications: int) -> Array:
    """How often each run is drawn in each replication, as a share [replications, runs]."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), size=replications) / runs


def _interval(replicated: Array) -> tuple[Array, Array]:
    """The percentiles of replications, which are the first axis."""
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicated, (outside, 1 - outside), axis=0)
    return low, high
