"""Drawing over the walls of a maze: where rows are, and who acted where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap

from pex_lightning.errors import printable
from pex_lightning.export.experience import Experience
from pex_lightning.inspection.maze_plan import MazePlan
from pex_lightning.inspection.picture import draw_density, draw_walls, visible
from pex_lightning.report.drawing import COLOURS, Sketch, sketch
from pex_lightning.report.reading import Run

Rows = npt.NDArray[np.float32]

_SQUARES_PER_CELL = 3
_WIDTH = 3.6


def maze_map(run: Run, plan: MazePlan, name: str, title: str, caption: str) -> Sketch:
    """Begin a map of a run: the walls."""
    x_low, x_high, y_low, y_high = visible(plan)
    height = _WIDTH * (y_high - y_low) / (x_high - x_low)
    begun = sketch(
        f"{run.record.task}-{run.record.variant}-{run.record.seed}-{name}",
        title,
        caption,
        size=(_WIDTH, min(height, 2.5 * _WIDTH) + 0.6),
    )
    draw_walls(begun.axes, plan)
    begun.axes.grid(False)
    return begun


def density(run: Run, plan: MazePlan, xy: Rows, title: str, what: str) -> Sketch:
    """Where rows are, by positions [N, 2]; `what` says what the rows are."""
    name = re.sub(r"\W.*", "", title).lower()
    begun = maze_map(run, plan, name, title, f"Where the {len(xy):,} {what} are.")
    scale = draw_density(begun.figure, begun.axes, xy, plan, below=True)
    scale.ax.xaxis.set_major_formatter("{x:g}")
    return begun


def choices(run: Run, plan: MazePlan, replay: Experience) -> Iterator[Sketch]:
    """Who acted where, in the first and in the last third of what was collected."""
    third = max(1, len(replay.policy_index) // 3)
    members = tuple(printable(name) for name in replay.header.members)
    for name, title, part in (
        ("early", "Online, early", slice(0, third)),
        ("late", "Online, late", slice(-third, None)),
    ):
        counts = member_counts(
            plan, replay.observations[part, :2], replay.policy_index[part], members
        )
        which = "first" if name == "early" else "last"
        gone = " that are still in the replay buffer" if replay.gone else ""
        begun = maze_map(run, plan, name, title, f"The {which} {third:,} environment steps{gone}: ")
        if len(members) == 2:
            begun.caption += f"in what share of the steps in a square {members[1]} acted."
        else:
            begun.caption += "which member acted most often in a square."
        _draw_counts(begun, plan, counts, members)
        yield begun


def member_counts(
    plan: MazePlan, xy: Rows, index: npt.NDArray[np.int64], members: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Steps of each member in each square, [M, X, Y]."""
    x_low, x_high, y_low, y_high = plan.extent
    bins = squares(plan, _SQUARES_PER_CELL)
    area = ((x_low, x_high), (y_low, y_high))
    counted = []
    for member in range(len(members)):
        x, y = xy[index == member].astype(np.float64).T
        counted.append(np.histogram2d(x, y, bins=bins, range=area)[0])
    return np.array(counted, dtype=np.int64)


def squares(plan: MazePlan, per_cell: int) -> tuple[int, int]:
    """How many squares the maze has in x and y, with so many in the side of a cell."""
    x_low, x_high, y_low, y_high = plan.extent
    return (
        round((x_high - x_low) / plan.cell_size * per_cell),
        round((y_high - y_low) / plan.cell_size * per_cell),
    )


def _draw_counts(
    begun: Sketch, plan: MazePlan, counts: npt.NDArray[np.int64], members: tuple[str, ...]
) -> None:
    total = counts.sum(axis=0)
    visited = total > 0
    if len(members) == 2:
        share = np.divide(counts[1], total, where=visited, out=np.zeros(total.shape))
        bar = shade(begun, plan, share, visited, cmap="cividis", vmin=0, vmax=1)
        bar.set_label(f"share of {members[1]}; the rest is {members[0]}")
    else:
        colours = ListedColormap([COLOURS[n % len(COLOURS)] for n in range(len(members))])
        most = counts.argmax(axis=0).astype(np.float64)
        limits = {"vmin": -0.5, "vmax": len(members) - 0.5}
        bar = shade(begun, plan, most, visited, cmap=colours, **limits)
        bar.set_ticks(range(len(members)), labels=list(members))
    for x, y in np.argwhere(visited):
        acted = ", ".join(
            f"{name} {100 * counts[member, x, y] / total[x, y]:.0f} %"
            for member, name in enumerate(members)
            if counts[member, x, y]
        )
        tell(begun, plan, _SQUARES_PER_CELL, x, y, f"{acted} of {total[x, y]:,} steps")


def shade(
    begun: Sketch, plan: MazePlan, values: Any, known: npt.NDArray[np.bool_], **options: Any
) -> Colorbar:
    """Colour the known ones of squares [X, Y] by their values; return the scale.

    Args:
        begun: The map.
        plan: The maze.
        values: [X, Y].
        known: [X, Y], which of them have one.
        options: As for matplotlib's `imshow`.
    """
    image = begun.axes.imshow(
        np.ma.masked_where(~known.T, values.T),
        origin="lower",
        extent=plan.extent,
        interpolation="none",
        zorder=2,
        **options,
    )
    return begun.figure.colorbar(
        image, ax=begun.axes, location="bottom", shrink=0.9, aspect=35, pad=0.02
    )


def tell(begun: Sketch, plan: MazePlan, per_cell: int, x: int, y: int, text: str) -> None:
    """Have a square of the map tell a text when it is pointed at."""
    side = plan.cell_size / per_cell
    x_low, _, y_low, _ = plan.extent
    begun.points.append((-1, x_low + (x + 0.5) * side, y_low + (y + 0.5) * side, text))
