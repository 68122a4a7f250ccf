"""A picture of any dataset: episodes, rewards, actions and observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.rows import episode_statistics
from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.inspection.picture import PIXELS_WIDE, check_png
from pex_lightning.inspection.ranges import ActionSpace, Numbers
from pex_lightning.inspection.raw import read_episodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

_DPI = 120
_BINS = 40
_WIDE_RANGE = 100.0
_BAR, _RANGE, _MEAN = "#0a6fd6", "#b9bcc4", "#16181d"


@dataclass(frozen=True)
class Overview:
    """What the picture shows.

    Attributes:
        name: The dataset's name.
        fingerprint: The dataset's fingerprint, empty if it has none.
        rows: Number of rows.
        returns: [E] raw returns of the complete episodes.
        lengths: [E] their rows.
        rewards: [N] raw rewards; may hold NaN and infinity.
        action_counts: [act_dim, bins] rows by where an action lies between its bounds; what lies
            outside counts at the bound.
        space: The bounds.
        observations: [obs_dim] ranges.
    """

    name: str
    fingerprint: str
    rows: int
    returns: Floats
    lengths: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    action_counts: npt.NDArray[np.int64]
    space: ActionSpace
    observations: Sequence[Numbers]


def overview_of(
    columns: Mapping[str, Column],
    max_episode_steps: int | None,
    space: ActionSpace,
    observations: Sequence[Numbers],
    name: str,
    fingerprint: str,
) -> Overview:
    """Read what the picture shows.

    Args:
        columns: Columns by D4RL's names.
        max_episode_steps: Rows of an episode that times out, if there are no `timeouts`.
        space: Bounds of the actions.
        observations: [obs_dim] ranges, which are known already.
        name: The dataset's name.
        fingerprint: The dataset's fingerprint, empty if it has none.
    """
    episodes = read_episodes(columns, max_episode_steps, [])
    returns, lengths = episode_statistics(episodes.rewards, episodes.ends)
    return Overview(
        name=name,
        fingerprint=fingerprint,
        rows=len(episodes.rewards),
        returns=returns,
        lengths=lengths,
        rewards=episodes.rewards,
        action_counts=_action_counts(columns["actions"], space),
        space=space,
        observations=observations,
    )


def _action_counts(actions: Column, space: ActionSpace) -> npt.NDArray[np.int64]:
    counts = np.zeros((actions.width, _BINS), dtype=np.int64)
    if len(space.low) != actions.width:
        return counts
    low, high = np.array(space.low), np.array(space.high)
    dimensions = np.arange(actions.width)
    try:
        for _, block in actions.blocks():
            finite = np.isfinite(block)
            share = (np.where(finite, block, low) - low) / (high - low)
            bins = (share.clip(0.0, 1.0) * _BINS).astype(np.int64).clip(max=_BINS - 1)
            np.add.at(counts, (np.broadcast_to(dimensions, bins.shape)[finite], bins[finite]), 1)
    except UserError:
        # Of bad values, after the last block; they are told in the text.
        pass
    return counts


def draw_overview(path: Path, overview: Overview) -> None:
    """Write a PNG, 1200 pixels wide.

    Args:
        path: The file to write; an existing one is replaced.
        overview: The data.

    Raises:
        UserError: The file cannot be written, or its name does not end in `.png`.
    """
    check_png(path)
    figure = _draw(overview)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=_DPI)


def _draw(overview: Overview) -> Figure:
    # pyplot would set a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(PIXELS_WIDE / _DPI, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3)
    fingerprint = f", fingerprint {overview.fingerprint}" if overview.fingerprint else ""
    figure.suptitle(
        f"{overview.name}: {overview.rows:,} rows, {len(overview.returns):,} complete "
        f"episodes{fingerprint}",
        fontsize=11,
        parse_math=False,
    )
    first = [figure.add_subplot(grid[0, column]) for column in range(3)]
    _histogram(first[0], overview.returns, "returns of episodes", "episodes")
    _histogram(first[1], overview.lengths, "lengths of episodes, in rows", "episodes")
    _histogram(first[2], overview.rewards, "rewards", "rows", logarithmic=True)
    _actions(figure, figure.add_subplot(grid[1, 0]), overview)
    _observations(figure.add_subplot(grid[1, 1:]), overview.observations)
    return figure


def _histogram(
    axes: Axes, values: npt.NDArray[np.generic], title: str, what: str, logarithmic: bool = False
) -> None:
    axes.set_title(title, fontsize=10)
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        # The same but for rounding, too close for bins.
        middle, half = low, max(abs(low) * 0.05, 0.5)
        axes.bar([middle], [len(finite)], width=half / 5, color=_BAR)
        axes.set_xlim(middle - half, middle + half)
    else:
        axes.hist(finite, bins=_BINS, color=_BAR)
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
    axes.set_ylabel(what)
    axes.ticklabel_format(axis="x", useOffset=False)


def _actions(figure: Figure, axes: Axes, overview: Overview) -> None:
    counts = overview.action_counts
    share = counts / max(1, overview.rows)
    image = axes.imshow(
        np.ma.masked_equal(share, 0),
        aspect="auto",
        interpolation="nearest",
        cmap="viridis_r",
        extent=(0.0, 1.0, len(counts) - 0.5, -0.5),
        vmin=0.0,
    )
    figure.colorbar(image, ax=axes, label=f"share of rows, of {_BINS} bins", aspect=30)
    axes.set_title("actions between their bounds", fontsize=10)
    axes.set(ylabel="dimension", xticks=[0.0, 0.5, 1.0])
    lows, highs = set(overview.space.low), set(overview.space.high)
    if len(lows) == len(highs) == 1:
        low, high = lows.pop(), highs.pop()
        axes.set_xticklabels([f"{x:g}" for x in (low, (low + high) / 2, high)])
    else:
        axes.set_xticklabels(["lower", "middle", "upper"])
    _whole_numbers(axes.yaxis)


def _observations(axes: Axes, ranges: Sequence[Numbers]) -> None:
    low, high, mean, std = (
        np.array([getattr(numbers, name) for numbers in ranges])
        for name in ("low", "high", "mean", "std")
    )
    places = np.arange(len(ranges))
    axes.set_title("observations: smallest to largest, mean ± standard deviation", fontsize=10)
    axes.set_xlabel("dimension")
    known = np.isfinite(low)
    if known.any():
        width = min(8.0, 200.0 / len(ranges))
        axes.vlines(places[known], low[known], high[known], color=_RANGE, linewidth=width)
        bottom, top = (mean - std)[known], (mean + std)[known]
        axes.vlines(places[known], bottom, top, color=_BAR, linewidth=width / 2)
        axes.plot(places[known], mean[known], "o", color=_MEAN, markersize=min(4.0, width))
        largest = np.maximum(np.abs(low), np.abs(high))[known]
        typical = float(np.median(largest))
        if largest.max() > _WIDE_RANGE * max(typical, 1e-12):
            # A few dimensions are far larger than the others, which would not be seen.
            axes.set_yscale("symlog", linthresh=max(typical, 1e-12))
    axes.set_xlim(-0.7, len(ranges) - 0.3)
    _whole_numbers(axes.xaxis)


def _whole_numbers(axis: object) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # type: ignore[attr-defined]
