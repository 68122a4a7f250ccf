"""A picture of the positions and trajectories of maze data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pex_lightning.datasets.columns import Column
from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.inspection.maze_plan import MazePlan
from pex_lightning.inspection.raw import first_numbers, read_episodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = npt.NDArray[np.float32]

PIXELS_WIDE = 1200
_DPI = 120
_BINS_PER_CELL = 16
_TRAJECTORIES = 60
_FEW_MARKS, _MAX_MARKS = 100, 4000
_WALL, _START, _GOAL, _REWARD = "#b9bcc4", "#0a84ff", "#e0119d", "#ff8c00"
_SHADES = ("#222222", "#4a4a55", "#75757f", "#2b2f66", "#3d5c54")
"""Muted colours of trajectories, to tell neighbours apart and let marked points stand out."""


@dataclass(frozen=True)
class Visits:
    """The parts of a dataset that a picture shows.

    Attributes:
        xy: [N, 2] position of every row, in metres; may hold NaN and infinity.
        terminals: [N] bool.
        timeouts: [N] bool.
        rewards: [N] raw rewards.
        name: The dataset's name.
        fingerprint: The dataset's fingerprint, empty if it has none.
    """

    xy: Floats
    terminals: npt.NDArray[np.bool_]
    timeouts: npt.NDArray[np.bool_]
    rewards: Floats
    name: str
    fingerprint: str


def visits_of(
    columns: Mapping[str, Column], max_episode_steps: int | None, name: str, fingerprint: str
) -> Visits:
    """Read what a picture shows; positions are the first two numbers of observations.

    Args:
        columns: Columns by D4RL's names.
        max_episode_steps: Rows of an episode that times out, if there are no `timeouts`.
        name: The dataset's name.
        fingerprint: The dataset's fingerprint, empty if it has none.

    Raises:
        UserError: Observations have only one number.
    """
    observations = columns["observations"]
    if observations.width < 2:
        raise UserError(
            f"{name}: its observations have one number; those of a maze begin with x and y. "
            "Another environment was meant (--env)."
        )
    episodes = read_episodes(columns, max_episode_steps, [])
    return Visits(
        xy=first_numbers(observations, 2),
        terminals=episodes.terminals,
        timeouts=episodes.timeouts,
        rewards=episodes.rewards,
        name=name,
        fingerprint=fingerprint,
    )


def check_png(path: Path) -> None:
    """Check that a picture's name ends in `.png`.

    Raises:
        UserError: It does not.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"--picture {path}: found the ending {path.suffix!r}, expected .png.")


def draw_visits(path: Path, visits: Visits, plan: MazePlan) -> None:
    """Write a PNG, 1200 pixels wide, with visit counts per place and complete trajectories.

    Args:
        path: The file to write; an existing one is replaced.
        visits: The data.
        plan: The maze.

    Raises:
        UserError: The file cannot be written, its name does not end in `.png`, or no position is
            known.
    """
    check_png(path)
    if not np.isfinite(visits.xy).all(axis=1).any():
        raise UserError(f"{visits.name}: every position is NaN or infinite; nothing can be drawn.")
    figure = _draw(visits, plan)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=_DPI)


def _draw(visits: Visits, plan: MazePlan) -> Figure:
    # pyplot would set a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    x_low, x_high, y_low, y_high = visible(plan)
    width = PIXELS_WIDE / _DPI
    # Panels are side by side, or stacked if the maze is wide.
    aside = (x_high - x_low) < 1.2 * (y_high - y_low)
    panel = width / 2 - 0.55 if aside else width - 1.6
    height = panel * (y_high - y_low) / (x_high - x_low)
    size = (width, height + 2.1 if aside else 2 * height + 2.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    first, second = figure.subplots(*((1, 2) if aside else (2, 1)))
    fingerprint = f", fingerprint {visits.fingerprint}" if visits.fingerprint else ""
    figure.suptitle(
        f"{visits.name}: {len(visits.xy):,} rows{fingerprint}\nmaze of {plan.name}", fontsize=11
    )
    draw_density(figure, first, visits.xy, plan, below=aside)
    handles = _trajectories(second, visits, plan)
    for axes in (first, second):
        draw_walls(axes, plan)
        marks = _starts_and_goals(axes, plan)
    if aside:
        second.set_ylabel("")
    figure.legend(handles=handles + marks, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def visible(plan: MazePlan) -> tuple[float, float, float, float]:
    """Return the visible area, the maze with half of its outer walls, like `MazePlan.extent`."""
    x_low, x_high, y_low, y_high = plan.extent
    half = plan.cell_size / 2
    return x_low + half, x_high - half, y_low + half, y_high - half


def draw_density(
    figure: Figure, axes: Axes, xy: Floats, plan: MazePlan, *, below: bool
) -> Colorbar:
    """Draw the number of rows in each small square, on a logarithmic scale; return the scale."""
    from matplotlib.colors import LogNorm  # noqa: PLC0415

    x_low, x_high, y_low, y_high = plan.extent
    bins = [
        round((high - low) / plan.cell_size * _BINS_PER_CELL)
        for low, high in ((x_low, x_high), (y_low, y_high))
    ]
    known = xy[np.isfinite(xy).all(axis=1)]
    counts, _, _ = np.histogram2d(
        known[:, 0], known[:, 1], bins=bins, range=((x_low, x_high), (y_low, y_high))
    )
    image = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=(x_low, x_high, y_low, y_high),
        norm=LogNorm(vmin=1, vmax=max(2, counts.max())),
        cmap="viridis_r",
        interpolation="nearest",
        zorder=2,
    )
    side = plan.cell_size / _BINS_PER_CELL
    where = "bottom" if below else "right"
    label = f"rows in a square of {side:.3g} m"
    scale = figure.colorbar(
        image, ax=axes, location=where, label=label, shrink=0.9, aspect=35, pad=0.02
    )
    outside = len(known) - int(counts.sum())
    beyond = f"; {outside:,} lie outside" if outside else ""
    axes.set_title(f"where the rows are{beyond}", fontsize=10)
    return scale


def _trajectories(axes: Axes, visits: Visits, plan: MazePlan) -> list[Line2D]:
    """Draw a sample of trajectories and the rewarded rows; return the legend's entries."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    last = recorded_ends(visits, plan.cell_size)
    first = np.concatenate((np.zeros(1, dtype=np.int64), last[:-1] + 1))
    chosen = _spread(len(last), _TRAJECTORIES)
    for number, index in enumerate(chosen):
        part = visits.xy[first[index] : last[index] + 1]
        shade = _SHADES[number % len(_SHADES)]
        axes.plot(part[:, 0], part[:, 1], color=shade, linewidth=0.7, alpha=0.8, zorder=2)
    label = f"{len(chosen)} of {len(last):,} trajectories"
    handles = [Line2D([], [], color=_SHADES[0], linewidth=1, label=label)]
    marked = _rewarded(visits.rewards)
    if marked is not None:
        value, rows = marked
        xy = visits.xy[rows[_spread(len(rows), _MAX_MARKS)]]
        size = 6 if len(rows) > _FEW_MARKS else 20
        axes.scatter(xy[:, 0], xy[:, 1], s=size, color=_REWARD, linewidths=0, alpha=0.6, zorder=3)
        handles.append(_dot(_REWARD, f"reward {value:g} ({len(rows):,} rows)"))
    axes.set_title("trajectories as they were recorded", fontsize=10)
    return handles


def recorded_ends(visits: Visits, cell_size: float) -> npt.NDArray[np.int64]:
    """Find the last rows [T] of the recorded trajectories.

    D4RL added AntMaze's terminals after recording, so trajectories may continue after a terminal: a
    terminal only ends a trajectory if the position then jumps.

    Args:
        visits: The data.
        cell_size: Side length of a cell; a jump is longer than a quarter of it.
    """
    steps = np.linalg.norm(np.diff(visits.xy, axis=0), axis=1)
    # The negated comparison counts a NaN position as a jump.
    cut = visits.timeouts[:-1] | (visits.terminals[:-1] & ~(steps <= cell_size / 4))
    return np.append(np.flatnonzero(cut), len(visits.xy) - 1)


def _spread(size: int, most: int) -> npt.NDArray[np.int64]:
    """Choose at most `most` of the indices below `size`, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).astype(np.int64)


def _rewarded(rewards: Floats) -> tuple[float, npt.NDArray[np.int64]] | None:
    """Return the higher of two reward values and its rows; None unless there are exactly two."""
    values = np.unique(rewards[np.isfinite(rewards)])
    if len(values) != 2:
        return None
    return float(values[1]), np.flatnonzero(rewards == values[1])


def _starts_and_goals(axes: Axes, plan: MazePlan) -> list[Line2D]:
    """Draw starts and goals of an evaluation; return the legend's entries."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Circle  # noqa: PLC0415

    for points, color in ((plan.starts, _START), (plan.goals, _GOAL)):
        axes.scatter(points[:, 0], points[:, 1], s=5, color=color, linewidths=0, zorder=5)
    handles = [_dot(_START, "starts of an evaluation"), _dot(_GOAL, "its goals")]
    centre = plan.goals.mean(axis=0)
    if np.abs(plan.goals - centre).max() < plan.cell_size:
        x, y = float(centre[0]), float(centre[1])
        circle = Circle((x, y), plan.goal_radius, fill=False, color=_GOAL, linewidth=1.8, zorder=6)
        axes.add_patch(circle)
        ring = Line2D([], [], marker="o", mfc="none", mew=1.8, ms=9, linestyle="", color=_GOAL)
        ring.set_label(f"success: within {plan.goal_radius:g} m of the goal (here their mean)")
        handles.append(ring)
    return handles


def _dot(color: str, label: str) -> Line2D:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    return Line2D([], [], marker="o", markersize=5, linestyle="", color=color, label=label)


def draw_walls(axes: Axes, plan: MazePlan) -> None:
    """Draw the walls and label the axes, in metres."""
    from matplotlib.collections import PatchCollection  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415
    from matplotlib.ticker import MultipleLocator  # noqa: PLC0415

    half, side = plan.cell_size / 2, plan.cell_size
    squares = [Rectangle((x - half, y - half), side, side) for x, y in plan.walls]
    # Without edges of the same colour, thin lines show between neighbouring squares.
    axes.add_collection(PatchCollection(squares, facecolor=_WALL, edgecolor=_WALL, zorder=1))
    x_low, x_high, y_low, y_high = visible(plan)
    axes.set(xlim=(x_low, x_high), ylim=(y_low, y_high), aspect="equal")
    axes.set(xlabel="x in metres", ylabel="y in metres")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(side))
