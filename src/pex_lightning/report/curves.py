"""Learning curves of variants, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pex_lightning.report.drawing import Floats, Series, Sketch, sketch
from pex_lightning.report.results import Results, interval, number
from pex_lightning.studies.outcomes import Evaluations
from pex_lightning.studies.statistics import Estimate, stratified_bootstrap

_MOST_POINTS = 150


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
        "Every evaluation of the run."
        if seeds == 1
        else f"Interquartile mean over seeds of every evaluation, of {seeds} runs; the area is its "
        "95 % bootstrap interval, where there is more than one seed. Runs that are not finished "
        "count as far as they have come.",
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
