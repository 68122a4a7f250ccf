"""The picture of the speed benchmark: a panel of bars for each comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.measurements import Comparison
from benchmarks.speed.report import Row, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEER = "0.65"
OURS = {"a": "C0", "b": "C1", "c": "C1", "d": "C2", "e": "C2"}
"""Colours by part."""
INCHES_A_BAR, INCHES_A_PANEL, INCHES_WIDE = 0.27, 0.75, 8.0
FEWEST_BARS = 2
"""Room for so many, so that a single bar is as thick as others."""


def picture(comparisons: list[Comparison], path: Path) -> None:
    """Medians with quartiles; the number at a bar is its ratio to the panel's first."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    panels = _panels(comparisons)
    heights = [INCHES_A_BAR * _bars_of(members) + INCHES_A_PANEL for _, members in panels]
    cut = _middle(heights)
    columns = [column for column in (range(cut), range(cut, len(panels))) if column]
    tallest = max((sum(heights[i] for i in column) for column in columns), default=1.0)
    figure = plt.figure(figsize=(INCHES_WIDE * max(1, len(columns)), tallest), layout="constrained")
    parts = figure.subfigures(1, max(1, len(columns)), squeeze=False)[0]
    for part, column in zip(parts, columns, strict=False):
        shares = [heights[i] for i in column]
        # What a column is shorter by stays empty at its end.
        spare = tallest - sum(shares)
        shares += [spare] if spare > INCHES_A_BAR else []
        axes = part.subplots(len(shares), 1, squeeze=False, height_ratios=shares)[:, 0]
        for axis in axes:
            axis.set_axis_off()
        for axis, place in zip(axes, column, strict=False):
            _bars(axis, *panels[place])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panels(comparisons: list[Comparison]) -> list[tuple[str, list[Row]]]:
    """Titles and rows: those of a comparison that count the same."""
    panels: dict[str, list[Row]] = {}
    for comparison in comparisons:
        for row in rows(comparison):
            title = f"{comparison.group.title}: {row.variant.case.quantity} a second"
            panels.setdefault(title, []).append(row)
    return list(panels.items())


def _bars_of(members: list[Row]) -> int:
    return max(FEWEST_BARS, len(members))


def _middle(heights: list[float]) -> int:
    """Where to cut a list in two so that the higher part is as low as can be."""
    cuts = range(1, len(heights) + 1)
    return min(cuts, key=lambda cut: max(sum(heights[:cut]), sum(heights[cut:])), default=0)


def _bars(axis: Axes, title: str, members: list[Row]) -> None:
    axis.set_axis_on()
    names = [row.variant.label for row in members]
    middle = [row.rate.median for row in members]
    below = [row.rate.median - row.rate.lower for row in members]
    above = [row.rate.upper - row.rate.median for row in members]
    cases = [row.variant.case for row in members]
    colours = [OURS[case.part] if case.ours else PEER for case in cases]
    axis.barh(names, middle, xerr=[below, above], color=colours, capsize=3)
    for place, row in enumerate(members):
        if row.ratio is not None:
            label = f"  {row.ratio.median:.2f}"
            axis.text(row.rate.upper, place, label, va="center", fontsize="small")
    axis.set_title(title, loc="left", fontsize="medium")
    axis.margins(x=0.12)
    axis.set_ylim(_bars_of(members) - 0.5, -0.5)
    axis.spines[["top", "right"]].set_visible(False)
