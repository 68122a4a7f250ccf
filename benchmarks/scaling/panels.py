"""What the scaling benchmark varies: a panel has a point for each value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.speed.case import Case, Group, Variant
from benchmarks.speed.measurements import Comparison, Spread


@dataclass(frozen=True)
class Point:
    """What was found at one value.

    Attributes:
        label: The value.
        x: Its place on the axis.
        found: Milliseconds, or units a second.
        ratio: To the panel's base, within rounds; None where that is missing.
    """

    label: str
    x: float
    found: Spread
    ratio: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Value:
    """One value of what varies.

    Attributes:
        label: As it is named.
        x: Its place on the axis.
        arguments: Command line of its process.
        threads: Of its process; None for those of the command line.
        scale: Units that one counted unit stands for: each of two processes has a batch.
    """

    label: str
    x: float
    arguments: tuple[str, ...]
    threads: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Panel:
    """One thing that varies.

    Attributes:
        title: What is shown.
        axis: What varies.
        entry: What is measured, in `benchmarks/cases/`.
        values: In order.
        base: Index of the value that ratios are to.
        cost: Whether milliseconds of a unit are shown, rather than units a second.
        logarithmic: Whether values are on a logarithmic axis.
        fit: Whether it is a training loop.
    """

    title: str
    axis: str
    entry: str
    values: tuple[Value, ...]
    base: int = 0
    cost: bool = True
    logarithmic: bool = True
    fit: bool = False

    def group(self, threads: int, wait: str = "BRIEF") -> Group:
        """Its variants, in order; `wait` as in `Case`."""
        return Group(
            self.title,
            None,
            threads,
            tuple(
                Variant(self._case(value), "float32", value.threads or threads, wait)
                for value in self.values
            ),
        )

    def _case(self, value: Value) -> Case:
        return Case(
            "a",
            value.label,
            self.title,
            "updates",
            self.entry,
            pinned=False,
            fit=self.fit,
            arguments=value.arguments,
        )

    def points(self, comparison: Comparison) -> list[Point]:
        """Those that could be measured."""
        variants = comparison.group.variants
        measured, base = comparison.measured_variants(), variants[self.base]
        found = []
        for value, variant in zip(self.values, variants, strict=True):
            if variant not in measured:
                continue
            ratio = self._ratio(comparison, variant, base) if base in measured else None
            spread = _scaled(comparison.rate(variant), value.scale)
            shown = _milliseconds(spread) if self.cost else spread
            found.append(Point(value.label, value.x, shown, ratio))
        return found

    def _ratio(self, comparison: Comparison, variant: Variant, base: Variant) -> Spread:
        """Of what is shown: of cost, or of speed."""
        if self.cost:
            return comparison.ratio(base, variant)
        scales = dict(zip(comparison.group.variants, self.values, strict=True))
        scale = scales[variant].scale / scales[base].scale
        return _scaled(comparison.ratio(variant, base), scale)

    def table(self, points: list[Point]) -> str:
        """A line a point."""
        unit = "ms" if self.cost else "a second"
        lines = [f"{self.title}: median (quartiles), ratio to {self.values[self.base].label}"]
        for point in points:
            found, ratio = point.found, point.ratio
            span = f"{found.median:8.3g} ({found.lower:.3g} to {found.upper:.3g}) {unit}"
            beside = "-" if ratio is None else f"{ratio.median:.2f}"
            lines.append(f"  {point.label:34} {span:38} {beside}")
        return "\n".join(lines) + "\n"


def _scaled(spread: Spread, by: float) -> Spread:
    return Spread(by * spread.median, by * spread.lower, by * spread.upper)


def _milliseconds(rate: Spread) -> Spread:
    return Spread(1000 / rate.median, 1000 / rate.upper, 1000 / rate.lower)


def _sizes(name: str, argument: str, *values: int) -> tuple[Value, ...]:
    return tuple(Value(f"{name} {v:,}", v, (f"--{argument}={v}",)) for v in values)


def _collectors(number: int) -> Value:
    unit = "collector" if number == 1 else "collectors"
    return Value(f"{number} {unit}", number, (f"--data.num_collectors={number}",))


_DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")
PANELS = {
    "batch": Panel(
        "IQL update by batch size",
        "batch size",
        "sized_update:build",
        _sizes("batch", "batch", 64, 256, 1024, 4096),
        base=1,
    ),
    "width": Panel(
        "IQL update by width",
        "width of both hidden layers",
        "sized_update:build",
        _sizes("width", "width", 128, 256, 512, 1024),
        base=1,
    ),
    "q": Panel(
        "IQL update by number of Q networks",
        "Q networks",
        "sized_update:build",
        _sizes("Q networks", "num_q", 2, 5, 10),
        logarithmic=False,
    ),
    "rows": Panel(
        "sampling for one update by rows in the buffer",
        "rows",
        "sampling:build",
        _sizes("rows", "rows", 10_000, 100_000, 1_000_000),
    ),
    "processes": Panel(
        "offline fit: batches of 256 learnt from",
        "processes x threads",
        "fit_offline:fit",
        (
            Value("1 process, 1 thread", 0, ("--trainer.devices=1",), 1),
            Value("1 process, 2 threads", 1, ("--trainer.devices=1",), 2),
            Value("2 processes, 1 thread each", 2, _DDP, 1, scale=2.0),
        ),
        cost=False,
        logarithmic=False,
        fit=True,
    ),
    "collectors": Panel(
        "online loop: updates, two for each environment step",
        "collectors",
        "fit_online:fit",
        tuple(_collectors(n) for n in (0, 1, 2, 4)),
        cost=False,
        logarithmic=False,
        fit=True,
    ),
}
