"""Figures that compare variants: learning curves, profiles, probabilities of improvement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pex_lightning.report.drawing import Floats, Series, Sketch, series_of, sketch
from pex_lightning.studies.outcomes import Evaluations, Outcome, RunKey
from pex_lightning.studies.statistics import (
    Estimate,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

UNITS = {"score": "score", "success": "success in %", "return": "return"}
_MOST_POINTS = 150
_MOST_NUMBERS = 12


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
        """Final scores of a variant, an array [seeds] for each task, empty for one without runs."""
        return [
            np.array([outcome.final for outcome in self.outcomes.get((task, variant), ())])
            for task in self.tasks
        ]


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


def learning_curves(results: Results, task: str) -> Iterator[Sketch]:
    """Online against environment steps and against updates; the offline stage against updates."""
    yield from _curves(
        results,
        task,
        "online-env-steps",
        "Online, by environment steps",
        "environment steps",
        lambda run: (run.online.env_steps, run.online.scores),
    )
    yield from _curves(
        results,
        task,
        "online-updates",
        "Online, by updates",
        "updates of the online stage",
        lambda run: (run.online.steps, run.online.scores),
    )
    yield from _curves(
        results,
        task,
        "offline-updates",
        "Offline stage",
        "updates of the offline stage",
        lambda run: (run.offline.steps, run.offline.scores),
    )


def _curves(
    results: Results,
    task: str,
    name: str,
    title: str,
    axis: str,
    of: Callable[[Evaluations], tuple[Floats, Floats]],
) -> Iterator[Sketch]:
    found: dict[str, list[tuple[Floats, Floats]]] = {}
    for variant in results.variants:
        known = [of(run) for run in results.evaluations.get((task, variant), ())]
        kept = [(x[np.isfinite(x)], scores[np.isfinite(x)]) for x, scores in known]
        kept = [(x, scores) for x, scores in kept if len(x)]
        if kept:
            found[variant] = kept
    if not found:
        return
    seeds = sum(len(curves) for curves in found.values())
    begun = sketch(
        f"{task}-{name}",
        f"{title}: {task}" if len(results.tasks) > 1 else title,
        f"Interquartile mean over seeds of every evaluation, of {seeds} runs; the area is its 95 % "
        "bootstrap interval, where there is more than one seed. Runs that are not finished count "
        "as far as they have come.",
        axis,
        results.unit(task),
    )
    for variant, curves in found.items():
        _add(begun, results.look[variant], curves, axis)
    if name.startswith("online"):
        _offline_only(results, task, begun, set(found))
    yield begun


def _add(begun: Sketch, look: Series, curves: Sequence[tuple[Floats, Floats]], axis: str) -> None:
    x, estimates, values = _over_seeds(curves)
    begun.line(
        look,
        x,
        np.array([estimate.value for estimate in estimates]),
        lambda n: _told(look.label, x[n], estimates[n], values[n], axis),
        (np.array([e.low for e in estimates]), np.array([e.high for e in estimates])),
    )


def _offline_only(results: Results, task: str, begun: Sketch, drawn: set[str]) -> None:
    """Draw variants without an online stage as levels."""
    low, high = begun.axes.get_xlim()
    for variant in results.variants:
        final = [o.final for o in results.outcomes.get((task, variant), ())]
        if variant in drawn or not final:
            continue
        estimate = stratified_bootstrap([final])
        at, level = np.array([low, high]), np.full(2, estimate.value)
        text = f"{variant}, after its offline stage: {number(estimate.value)}{interval(estimate)}"
        look = replace(results.look[variant], mark="")
        begun.line(look, at, level, lambda _, t=text: t)  # type: ignore[misc]
    begun.axes.set_xlim(low, high)


def _over_seeds(
    curves: Sequence[tuple[Floats, Floats]],
) -> tuple[Floats, list[Estimate], list[Floats]]:
    """Estimates at every place where some run was evaluated; between its own, a run is a line."""
    x = np.unique(np.concatenate([at for at, _ in curves]))
    if len(x) > _MOST_POINTS:
        x = x[np.linspace(0, len(x) - 1, _MOST_POINTS).astype(np.int64)]
    values = np.full((len(x), len(curves)), math.nan)
    for column, (at, score) in enumerate(curves):
        order = np.argsort(at, kind="stable")
        values[:, column] = np.interp(x, at[order], score[order], left=math.nan, right=math.nan)
    known = [row[np.isfinite(row)] for row in values]
    x, known = x[[len(row) > 0 for row in known]], [row for row in known if len(row)]
    return x, [stratified_bootstrap([row], replications=1_000) for row in known], known


def _told(variant: str, x: float, estimate: Estimate, values: Floats, axis: str) -> str:
    seeds = f"{len(values)} seeds: " if len(values) > 1 else ""
    each = seeds + ", ".join(number(v) for v in values) if 1 < len(values) <= 10 else seeds
    return f"{variant}: {number(estimate.value)}{interval(estimate)}\n{x:,.0f} {axis}" + (
        f"\n{each}" if each else ""
    )


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
    """For every two variants, how probably one is better; None where there is but one."""
    variants = [v for v in results.variants if any(len(task) for task in results.final(v))]
    count = len(variants)
    if count < 2:
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
    finals = [results.final(variant) for variant in variants]
    for row in range(count):
        for column in range(count):
            if row == column:
                continue
            estimate = probability_of_improvement(finals[row], finals[column], replications=1_000)
            shares[row, column] = estimate.value
            if math.isfinite(estimate.value):
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
        for row, column in np.argwhere(np.isfinite(shares)):
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
