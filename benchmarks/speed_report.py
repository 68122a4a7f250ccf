"""What ``speed.py`` makes of its measurements: medians, ratios, a table, a picture."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

BASELINE = "ours"
PACKAGES = ("pex-lightning", "torch", "torchrl", "tensordict", "d3rlpy", "jax", "jaxlib", "numpy")


@dataclass(frozen=True)
class Variant:
    """A case with the settings of a measuring process; ``wait`` is ``OMP_WAIT_POLICY``."""

    library: str
    quantity: str
    precision: str
    threads: int
    wait: str

    @property
    def label(self) -> str:
        """As it is named to the user."""
        unit = "thread" if self.threads == 1 else "threads"
        wait = "" if self.threads == 1 else f" {self.wait}"
        return f"{self.library} {self.quantity} {self.precision} {self.threads} {unit}{wait}"


@dataclass(frozen=True)
class Measurement:
    """Units a second of a variant in one round (from 0)."""

    variant: Variant
    round: int
    rate: float


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A variant's units a second, and its ratio to ours in float32 with as many threads.

    The ratio is taken within each round; it is None where ours was not measured.
    """

    variant: Variant
    label: str
    rate: Spread
    ratio: Spread | None
    rounds: list[float]


@dataclass(frozen=True)
class Report:
    """All measurements, and why what is missing is (by library, or by variant's label)."""

    measurements: list[Measurement]
    skipped: dict[str, str]

    def rows(self) -> list[Row]:
        """A row a variant, in the order measured."""
        rates: dict[Variant, dict[int, float]] = {}
        for found in self.measurements:
            rates.setdefault(found.variant, {})[found.round] = found.rate
        return [_row(variant, own, _baseline(variant, rates)) for variant, own in rates.items()]


def _baseline(variant: Variant, rates: dict[Variant, dict[int, float]]) -> dict[int, float]:
    """Ours, float32, as many threads, as ``fit`` lets them wait: its rates by round."""
    ours = Variant(BASELINE, variant.quantity, "float32", variant.threads, "PASSIVE")
    return rates.get(ours, {})


def _row(variant: Variant, own: dict[int, float], baseline: dict[int, float]) -> Row:
    ratios = [rate / baseline[turn] for turn, rate in own.items() if turn in baseline]
    ratio = _spread(ratios) if ratios else None
    return Row(variant, variant.label, _spread(list(own.values())), ratio, list(own.values()))


def _spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def table(report: Report) -> str:
    """A line a variant, then what was skipped."""
    lines = ["median (lowest to highest) a second; ratio to ours float32 with as many threads"]
    for row in report.rows():
        rate, ratio = row.rate, row.ratio
        beside = (
            "-"
            if ratio is None
            else f"ratio {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        )
        span = f"{rate.median:9.1f} ({rate.low:.1f} to {rate.high:.1f})"
        lines.append(f"{row.label:44} {span:28} {beside}")
    lines += [f"skipped {name}: {why}" for name, why in report.skipped.items()]
    return "\n".join(lines) + "\n"


def machine() -> dict[str, object]:
    """Where this ran, and with what."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def picture(report: Report, path: Path) -> None:
    """Bars of medians with lowest and highest, a panel for each quantity and number of threads."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    panels: dict[tuple[str, int], list[Row]] = {}
    for row in report.rows():
        panels.setdefault((row.variant.quantity, row.variant.threads), []).append(row)
    heights = [max(2, len(rows)) for rows in panels.values()] or [2]
    figure, axes = plt.subplots(
        len(heights),
        1,
        figsize=(8, 0.35 * sum(heights) + 1.2 * len(heights)),
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for axis, ((quantity, threads), rows) in zip(axes[:, 0], panels.items(), strict=False):
        _bars(axis, rows, threads)
        axis.set_xlabel(f"{quantity} a second: median, lowest and highest")
        axis.set_title("1 thread" if threads == 1 else f"{threads} threads", loc="left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _bars(axis: object, rows: list[Row], threads: int) -> None:
    from matplotlib.axes import Axes  # noqa: PLC0415

    assert isinstance(axis, Axes)
    names = [
        f"{r.variant.library}, {r.variant.precision}"
        + (f", {r.variant.wait.lower()}" if threads > 1 else "")
        for r in rows
    ]
    middle = [r.rate.median for r in rows]
    below = [r.rate.median - r.rate.low for r in rows]
    above = [r.rate.high - r.rate.median for r in rows]
    colours = ["C0" if r.variant.library == BASELINE else "0.6" for r in rows]
    axis.barh(names, middle, xerr=[below, above], color=colours, capsize=3)
    for place, row in enumerate(rows):
        if row.ratio is not None:
            label = f"  {row.ratio.median:.2f}"
            axis.text(row.rate.high, place, label, va="center", fontsize="small")
    axis.margins(x=0.12)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
