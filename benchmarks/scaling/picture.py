"""The picture of the scaling benchmark: one panel for each thing that varies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.scaling.panels import Panel, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def picture(found: dict[Panel, list[Point]], path: Path) -> None:
    """Medians with quartiles; the dashed line would be a cost proportional to the value."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    lines = -(-len(found) // COLUMNS) or 1
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(5.0 * COLUMNS, 3.6 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (panel, points) in zip(axes.flat, found.items(), strict=False):
        axis.set_axis_on()
        axis.set_title(panel.title, loc="left", fontsize="medium")
        axis.set_xlabel(panel.axis)
        axis.spines[["top", "right"]].set_visible(False)
        if points and panel.cost:
            _curve(axis, panel, points)
        elif points:
            _bars(axis, points)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _errors(points: list[Point]) -> list[list[float]]:
    below = [point.found.median - point.found.lower for point in points]
    above = [point.found.upper - point.found.median for point in points]
    return [below, above]


def _curve(axis: Axes, panel: Panel, points: list[Point]) -> None:
    xs = [point.x for point in points]
    middle = [point.found.median for point in points]
    axis.errorbar(xs, middle, yerr=_errors(points), marker="o", capsize=3)
    base = next((p for p in points if p.x == panel.values[panel.base].x), points[0])
    proportional = [base.found.median * x / base.x for x in xs]
    axis.plot(xs, proportional, linestyle="--", color="0.7", zorder=0, label="proportional")
    for point in points:
        place = (point.x, point.found.median)
        text = f"{point.found.median:.3g}"
        axis.annotate(text, place, (6, -10), textcoords="offset points", fontsize="small")
    axis.set_ylabel("ms")
    if panel.logarithmic:
        axis.set_xscale("log", base=10 if max(xs) > 10_000 else 2)
        axis.set_yscale("log")
        # The line may leave the panel, the points may not.
        axis.set_ylim(min(middle) / 1.6, max(middle) * 1.6)
    else:
        axis.set_ylim(0, 1.15 * max(middle))
    axis.set_xticks(xs, [f"{x:,.0f}" for x in xs], minor=False)
    axis.minorticks_off()
    axis.legend(loc="upper left", frameon=False, fontsize="small")


def _bars(axis: Axes, points: list[Point]) -> None:
    names = [point.label.replace(", ", ",\n") for point in points]
    middle = [point.found.median for point in points]
    axis.bar(names, middle, yerr=_errors(points), capsize=3, width=0.6)
    axis.set_xlabel("")
    axis.set_ylabel("a second")
    for place, point in enumerate(points):
        if point.ratio is not None:
            label = f"{point.ratio.median:.2f}"
            axis.text(place, point.found.upper, label, ha="center", va="bottom", fontsize="small")
    axis.margins(y=0.12)
