"""Numbers of a comparison: speeds, ratios within rounds, and how they spread."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import quantiles

from benchmarks.speed.case import Group, Variant
from benchmarks.speed.stopwatch import Block, Measured


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        lower, middle, upper = quantiles(values, n=4, method="inclusive")
        return cls(middle, lower, upper)

    @classmethod
    def once(cls, value: float) -> Spread:
        """Of what was measured once."""
        return cls(value, value, value)


@dataclass(frozen=True)
class Comparison:
    """What was measured of a group."""

    group: Group
    measured: Measured

    def measured_variants(self) -> list[Variant]:
        """Those that were not skipped, in the group's order."""
        names = {block.name for block in self.measured.blocks}
        return [variant for variant in self.group.variants if variant.label in names]

    def blocks(self, variant: Variant) -> dict[int, Block]:
        """A variant's blocks by round."""
        return {b.round: b for b in self.measured.blocks if b.name == variant.label}

    def rate(self, variant: Variant) -> Spread:
        """Units a second."""
        return Spread.of([block.rate for block in self.blocks(variant).values()])

    def overall(self, variant: Variant) -> float:
        """Units a second over all blocks together, in which rare costs show too."""
        blocks = self.blocks(variant).values()
        return sum(block.units for block in blocks) / sum(block.seconds for block in blocks)

    def ratio(self, variant: Variant, to: Variant) -> Spread:
        """How many times as fast as `to` a variant is, within each round."""
        base = self.blocks(to)
        return Spread.of(
            [b.rate / base[turn].rate for turn, b in self.blocks(variant).items() if turn in base]
        )

    def baseline(self, quantity: str) -> Variant | None:
        """What ratios of a quantity are to: the first, in float32; None if it is missing."""
        first = next((v for v in self.group.variants if v.case.quantity == quantity), None)
        return first if first in self.measured_variants() else None

    def fastest(self, names: tuple[str, ...], precision: str = "float32") -> Variant | None:
        """The fastest measured variant of the cases of these names; None if there is none."""
        found = [
            variant
            for variant in self.measured_variants()
            if variant.case.name in names and variant.precision == precision
        ]
        return max(found, key=lambda variant: self.rate(variant).median, default=None)


def own_cases(comparison: Comparison, part: str) -> tuple[str, ...]:
    """Names of this package's cases of a part."""
    variants = comparison.measured_variants()
    return tuple({v.case.name: None for v in variants if v.case.ours and v.case.part == part})
