"""Figures: drawn once by matplotlib, for the page and as files."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from pex_lightning.files.atomic import written_aside

Floats = npt.NDArray[np.floating[Any]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart, without its yellow."""
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
_MARKS = "osD^vPX"
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#e4e4e8",
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    # The same figure has the same names inside.
    "svg.hashsalt": "pex-lightning",
    # Names come from runs, and may have the signs of a formula in them.
    "text.parse_math": False,
}
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SERIES = re.compile(r"series-(\d+)")
_PNG_DPI = 160


@dataclass(frozen=True)
class Series:
    """What can be hidden in a figure, and how the legend shows it."""

    label: str
    colour: str
    dash: Any = "-"
    mark: str = ""

    @property
    def dasharray(self) -> str:
        """As SVG's `stroke-dasharray`."""
        return "" if self.dash == "-" else " ".join(f"{2 * part:g}" for part in self.dash[1])


def series_of(labels: Sequence[str]) -> dict[str, Series]:
    """A colour, a dash and a mark for each of the names, different for at least 28 of them."""
    return {
        label: Series(
            label,
            COLOURS[number % len(COLOURS)],
            _DASHES[number // len(COLOURS) % len(_DASHES)],
            _MARKS[number % len(_MARKS)],
        )
        for number, label in enumerate(labels)
    }


@dataclass
class Sketch:
    """A figure that is being drawn.

    Attributes:
        name: Name of its files, without ending; made unique when it is drawn.
        title: In one line.
        caption: What it shows and how to read it.
        figure: The figure.
        axes: Its one pair of axes.
        series: What can be hidden.
        points: What hovering tells: number of the series, x, y, text.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    axes: Axes
    series: list[Series] = field(default_factory=list)
    points: list[tuple[int, float, float, str]] = field(default_factory=list)

    def line(
        self,
        series: Series,
        x: Floats,
        y: Floats,
        told: Callable[[int], str],
        band: tuple[Floats, Floats] | None = None,
    ) -> None:
        """Add a curve.

        Args:
            series: How it looks.
            x: [N].
            y: [N].
            told: Text for the n-th point.
            band: Lower and upper end of an interval at every point, [N] each.
        """
        number = len(self.series)
        self.series.append(series)
        marks = series.mark if len(x) <= 30 else ""
        (drawn,) = self.axes.plot(
            x,
            y,
            color=series.colour,
            linestyle=series.dash,
            linewidth=1.7,
            marker=marks,
            markersize=4,
            label=series.label,
        )
        drawn.set_gid(f"series-{number}")
        if band is not None and np.isfinite(band[0]).any():
            area = self.axes.fill_between(x, *band, color=series.colour, alpha=0.1, linewidth=0)
            area.set_gid(f"series-{number}-band")
        for at in _spread(len(x), 200):
            if np.isfinite(y[at]):
                self.points.append((number, float(x[at]), float(y[at]), told(int(at))))


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn.

    Attributes:
        id: Its id in the page.
        title: In one line.
        caption: What it shows and how to read it.
        svg: The picture, safe to be put into a page.
        series: What can be hidden.
        points: What hovering tells: number of the series, x and y in the picture, text.
        files: Its files, PNG and SVG.
    """

    id: str
    title: str
    caption: str
    svg: str
    series: tuple[Series, ...]
    points: tuple[tuple[int, float, float, str], ...]
    files: tuple[Path, ...]


def sketch(
    name: str,
    title: str,
    caption: str,
    x: str = "",
    y: str = "",
    size: tuple[float, float] = (5, 3),
) -> Sketch:
    """Begin a figure; `size` in inches."""
    with mpl.rc_context(_STYLE):
        # `text.parse_math` is read when a text is made, so the style holds here and when drawn.
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=y)
        if "steps" in x or "updates" in x:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return Sketch(name, title, caption, figure, axes)


class Painter:
    """Draws figures, and writes each as PNG and SVG.

    Args:
        folder: Where the files go; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def draw(self, begun: Sketch) -> Drawing:
        """Draw a figure.

        Raises:
            UserError: Its files cannot be written.
        """
        name, number = self._free(begun.name), len(self._names)
        with mpl.rc_context(_STYLE):
            title = begun.axes.set_title(begun.title)
            legend = _add_legend(begun) if len(begun.series) > 1 else 0.0
            files = (self._folder / f"{name}.png", self._folder / f"{name}.svg")
            for file in files:
                with written_aside(file) as aside:
                    metadata = {"Date": None} if file.suffix == ".svg" else None
                    begun.figure.savefig(
                        aside,
                        format=file.suffix[1:],
                        dpi=_PNG_DPI,
                        metadata=metadata,
                        bbox_inches="tight",
                    )
            # The page has the title and the legend as text.
            title.set_text("")
            begun.figure.legends.clear()
            width, height = begun.figure.get_size_inches()
            begun.figure.set_size_inches(width, height - legend)
            svg = io.BytesIO()
            begun.figure.savefig(svg, format="svg", metadata={"Date": None})
            points = _in_picture(begun)
            box = begun.figure.get_tightbbox()
        width, height = (72 * side for side in begun.figure.get_size_inches())
        # Without the margins above and below that a maze of a fixed shape leaves.
        top, bottom = height - 72 * box.y1 - 3, height - 72 * box.y0 + 3
        view = f"0 {top:.1f} {width:.1f} {bottom - top:.1f}"
        picture = _for_page(svg.getvalue(), f"f{number}", view)
        return Drawing(
            f"f{number}", begun.title, begun.caption, picture, tuple(begun.series), points, files
        )

    def _free(self, wanted: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_+-]+", "-", wanted).strip("-")[:80] or "figure"
        name, number = base, 2
        while name.lower() in self._names:
            name, number = f"{base}-{number}", number + 1
        self._names.add(name.lower())
        return name


def _add_legend(begun: Sketch) -> float:
    """Add a legend below; return by how many inches the figure has grown for it."""
    handles = [
        Line2D([], [], color=s.colour, linestyle=s.dash, marker=s.mark, markersize=4, label=s.label)
        for s in begun.series
    ]
    width, height = begun.figure.get_size_inches()
    longest = max(len(series.label) for series in begun.series)
    columns = max(1, min(len(handles), int(width / (0.55 + 0.075 * longest))))
    grown = 0.19 * -(-len(handles) // columns) + 0.1
    begun.figure.set_size_inches(width, height + grown)
    begun.figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
        frameon=False,
        handlelength=3.2,
    )
    return float(grown)


def _in_picture(begun: Sketch) -> tuple[tuple[int, float, float, str], ...]:
    """Points in the units of the picture, 72 an inch, from its upper left corner."""
    if not begun.points:
        return ()
    figure = begun.figure
    height = figure.get_size_inches()[1] * 72
    where = begun.axes.transData.transform([(x, y) for _, x, y, _ in begun.points])
    where = where / figure.dpi * 72
    return tuple(
        (number, round(float(x), 1), round(float(height - y), 1), text)
        for (number, _, _, text), (x, y) in zip(begun.points, where, strict=True)
    )


def _for_page(svg: bytes, prefix: str, view: str) -> str:
    """The picture without a header, with ids that are unique in the page and marked series."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _LINK)
    # What is parsed was just written by matplotlib.
    root = ET.fromstring(svg)
    for unused in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(unused)
    for element in root.iter():
        gid = element.get("id")
        if gid is not None:
            if found := _SERIES.match(gid):
                element.set("data-series", found[1])
            element.set("id", f"{prefix}-{gid}")
        for key, value in list(element.attrib.items()):
            if key == f"{{{_LINK}}}href" and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{prefix}-{value[5:]}")
    root.set("viewBox", view)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    return ET.tostring(root, encoding="unicode")


def _spread(size: int, most: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, size - 1, min(size, most)).astype(np.int64)
