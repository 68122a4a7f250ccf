"""Figures that compare final scores: the profile, and probabilities of improvement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from pex_lightning.report.drawing import Floats, Sketch, sketch
from pex_lightning.report.results import Results, interval, number
from pex_lightning.studies.statistics import (
    Estimate,
    performance_profile,
    probability_of_improvement,
)

_MOST_NUMBERS = 12


def profile(results: Results) -> Sketch | None:
    """The performance profile of final scores; None where scores cannot be compared."""
    finals = {v: results.final(v) for v in results.complete()}
    scores = np.concatenate([np.empty(0), *(task for tasks in finals.values() for task in tasks)])
    scores = scores[np.isfinite(scores)]
    if len(scores) < 2 or not results.comparable:
        return None
    low, high = min(0.0, scores.min()), max(scores.max(), low_end(scores))
    taus = np.linspace(low, high, 101)
    begun = sketch(
        "performance-profile",
        "Performance profile",
        "Share of runs whose final score is above each threshold, with pointwise 95 % bootstrap "
        "intervals. A curve that lies higher everywhere is better.",
        f"final {results.unit(results.tasks[0])}",
        "share of runs above it",
    )
    for variant, tasks in finals.items():
        if not all(len(task) for task in tasks):
            continue
        found = performance_profile(tasks, taus)
        begun.line(
            results.look[variant],
            taus,
            found.share,
            lambda n, v=variant, f=found: (  # type: ignore[misc]
                f"{v}: {100 * f.share[n]:.0f} % of its runs are above {number(f.taus[n])}"
            ),
            (found.low, found.high),
        )
    begun.axes.set_ylim(-0.03, 1.03)
    return begun


def low_end(scores: Floats) -> float:
    """An upper end that is above the lower one where all scores are the same."""
    return float(scores.min()) + 1.0


def improvement(results: Results) -> Sketch | None:
    """For every two variants, how probably one is better; None where no two share a task."""
    variants = [v for v in results.variants if any(len(task) for task in results.final(v))]
    estimates = _compared(results, variants)
    count = len(variants)
    if not estimates:
        return None
    side = min(9.0, 2.2 + 0.26 * count)
    begun = sketch(
        "probability-of-improvement",
        "Probability of improvement",
        "How probably a run of the row's variant ends with a higher score than a run of the "
        "column's on the same task, ties counting half; the mean over tasks. 0.5 means no "
        "difference.",
        "… than this variant",
        "this variant is better …",
        (max(5.0, side), side),
    )
    shares = np.full((count, count), math.nan)
    for (row, column), estimate in estimates.items():
        shares[row, column] = estimate.value
        text = (
            f"{variants[row]} better than {variants[column]}: "
            f"{estimate.value:.2f}{interval(estimate)}"
        )
        begun.points.append((-1, float(column), float(row), text))
    image = begun.axes.imshow(shares, cmap="PuOr", vmin=0, vmax=1, interpolation="none")
    begun.axes.grid(False)
    begun.axes.set_xticks(range(count), variants, rotation=60, ha="right", fontsize=9)
    begun.axes.set_yticks(range(count), variants, fontsize=9)
    begun.figure.colorbar(image, ax=begun.axes, shrink=0.8, pad=0.02)
    if count <= _MOST_NUMBERS:
        for row, column in estimates:
            value = shares[row, column]
            dark = abs(value - 0.5) > 0.35
            begun.axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    return begun


def _compared(results: Results, variants: Sequence[str]) -> dict[tuple[int, int], Estimate]:
    """How probably one variant is better than another, by the places of both; where known."""
    finals = [results.final(variant) for variant in variants]
    estimates = {
        (row, column): probability_of_improvement(finals[row], finals[column], replications=1_000)
        for row, column in itertools.permutations(range(len(variants)), 2)
    }
    return {pair: found for pair, found in estimates.items() if math.isfinite(found.value)}
