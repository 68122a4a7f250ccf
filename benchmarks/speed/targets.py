"""What this package wants to reach, and whether a run of the speed benchmark reached it.

Where there are several ways of doing the same (how threads wait, compiled or not), the fastest of
ours is compared with the fastest of theirs. A target is met by the median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.speed.case import Variant
from benchmarks.speed.measurements import Comparison, Spread, own_cases
from benchmarks.speed.run_costs import RunCosts, RunStart

THREADS = 2
MEGABYTE = 10**6


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Attributes:
        name: What is wanted.
        wanted: The bound.
        at_least: Whether it is a lower bound.
        unit: Of the numbers.
        found: None where it was not measured.
        note: What was compared.
    """

    name: str
    wanted: float
    at_least: bool
    unit: str
    found: Spread | None = None
    note: str = "not measured"

    @property
    def verdict(self) -> str:
        """`met`, `missed` or, where it was not measured, `-`."""
        if self.found is None:
            return "-"
        value = self.found.median
        met = value >= self.wanted if self.at_least else value <= self.wanted
        return "met" if met else "missed"


Fastest = Callable[[Comparison], Variant | None]


def targets(comparisons: list[Comparison], costs: RunCosts | None) -> list[Target]:
    """All targets, with what was found."""

    def ratio(name: str, wanted: float, subject: str, over: Fastest, under: Fastest) -> Target:
        found, note = _ratio(comparisons, subject, over, under)
        return Target(name, wanted, True, "x", found, note)

    return [
        ratio("update, float32: of JAX's", 1.0, "IQL", _own("a"), _peer("JAX")),
        ratio("update, float32: of d3rlpy's", 1.7, "IQL", _own("a"), _peer("d3rlpy")),
        ratio("update: bf16 of float32", 1.25, "IQL", _own("a", "bf16"), _own("a")),
        ratio("offline fit: of the bare update", 0.92, "IQL", _own("b"), _own("a")),
        ratio("online loop: of the bare update", 0.85, "PEX", _own("c"), _own("a")),
        _online_speed(comparisons),
        ratio("evaluation: of one by one", 1.6, "evaluation", _evaluation, _one_by_one),
        *_costs(costs),
    ]


def _own(part: str, precision: str = "float32") -> Fastest:
    return lambda comparison: comparison.fastest(own_cases(comparison, part), precision)


def _peer(name: str) -> Fastest:
    return lambda comparison: comparison.fastest((name,))


_evaluation, _one_by_one = _peer("evaluation"), _peer("one after another")


def _ratio(
    comparisons: list[Comparison], subject: str, over: Fastest, under: Fastest
) -> tuple[Spread | None, str]:
    """The ratio in the first group that has both, and what was compared."""
    for comparison in comparisons:
        if (comparison.group.subject, comparison.group.threads) != (subject, THREADS):
            continue
        ours, theirs = over(comparison), under(comparison)
        if ours is not None and theirs is not None:
            return comparison.ratio(ours, theirs), f"{ours.label} / {theirs.label}"
    return None, "not measured"


def _online_speed(comparisons: list[Comparison]) -> Target:
    target = Target("online loop: environment steps a second", 115, True, "")
    for comparison in comparisons:
        if (comparison.group.subject, comparison.group.threads) == ("PEX", THREADS):
            loop = _own("c")(comparison)
            if loop is not None:
                note = f"{loop.label}; wanted of 2 cores on which JAX does 153 IQL updates"
                return replace(target, found=comparison.rate(loop), note=note)
    return target


def _costs(costs: RunCosts | None) -> list[Target]:
    memory = Target("offline fit: peak memory over the dataset, MB", 600, False, "")
    first = Target("offline fit: seconds to the first update", 12, False, "")
    found: list[Target] = []
    starts = (None, None) if costs is None else (costs.again, costs.first)
    for when, start in zip(("", ", nothing compiled before"), starts, strict=True):
        memory_then = replace(memory, name=memory.name + when)
        first_then = replace(first, name=first.name + when)
        if costs is not None and start is not None:
            memory_then = _memory(memory_then, start, costs.dataset_bytes)
            note = (
                f"{start.evaluation_seconds:.1f} s of it a first evaluation of 1 episode; later "
                f"{start.compiler_seconds:.1f} s of waiting for the compiler"
            )
            first_then = replace(first_then, found=Spread.once(start.seconds), note=note)
        found += [memory_then, first_then]
    return found


def _memory(target: Target, start: RunStart, dataset_bytes: int) -> Target:
    if start.peak_bytes is None:
        return replace(target, note="this system does not say")
    peak, dataset = start.peak_bytes / MEGABYTE, dataset_bytes / MEGABYTE
    note = f"{peak:.0f} MB of the process that trains, dataset {dataset:.0f} MB"
    if start.helper_peak_bytes is not None:
        note += f"; for a while {start.helper_peak_bytes / MEGABYTE:.0f} MB of another"
    return replace(target, found=Spread.once(peak - dataset), note=note)


def targets_table(found: list[Target]) -> str:
    """A line a target."""
    lines = [f"{'target':69} {'wanted':>8}  {'found':26} {'':6}  compared"]
    for target in found:
        sign = ">=" if target.at_least else "<="
        wanted = f"{sign} {target.wanted:g}{target.unit}"
        lines.append(
            f"{target.name:69} {wanted:>8}  {_shown(target):26} {target.verdict:6}  {target.note}"
        )
    return "\n".join(lines) + "\n"


def _shown(target: Target) -> str:
    found = target.found
    if found is None:
        return "-"
    digits = 2 if target.unit == "x" else 1
    text = f"{found.median:.{digits}f}{target.unit}"
    if found.lower == found.upper:
        return text
    return f"{text} ({found.lower:.{digits}f} to {found.upper:.{digits}f})"
