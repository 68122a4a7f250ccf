"""What this package wants to reach, and whether a run of the speed benchmark reached it.

Where there are several ways of doing the same (how threads wait, compiled or not), the fastest of
ours is compared with the fastest of theirs. A target is met by the median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from benchmarks.cases.shared.setting import PRECISIONS, UPDATES_PER_STEP
from benchmarks.speed.case import Variant
from benchmarks.speed.case_table import ONE_UPDATE, SIDE_BY_SIDE
from benchmarks.speed.measurements import Comparison, Spread, own_cases
from benchmarks.speed.run_costs import RunCosts, RunStart

THREADS = 2
WITH_OWN_TARGET = {ONE_UPDATE, *SIDE_BY_SIDE}
"""Cases that are not meant where the fastest of ours is looked for."""
MEGABYTE = 10**6
OFFLINE_UPDATES, INITIAL_UPDATES, ONLINE_STEPS = 120_000, 4_000, 40_000
"""The lengths of `conf/studies/hand-over.yaml`."""
RELEASED_UPDATES, RELEASED_STEPS, JAX_BESIDE = 124.0, 71.0, 153.0
"""What PEX's released code did a second, offline and online, on 2 cores on which JAX did
`JAX_BESIDE` updates of IQL, all in float32 with 2 threads."""


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
        ratio("update, float32: of JAX's", 1.0, "IQL", _own("a"), _named("JAX")),
        ratio("update, float32: of d3rlpy's", 1.7, "IQL", _own("a"), _named("d3rlpy")),
        ratio("update: bf16 of float32", 1.25, "IQL", _own("a", "bf16"), _own("a")),
        ratio("offline fit: of the bare update", 0.92, "IQL", _own("b"), _own("a")),
        ratio("online loop: of the bare update", 0.95, "PEX", _own("c"), _own("a")),
        _online_speed(comparisons),
        *(_protocol(comparisons, precision) for precision in PRECISIONS),
        *(_protocol(comparisons, precision, side_by_side=True) for precision in PRECISIONS),
        ratio("evaluation: of one by one", 1.6, "evaluation", _evaluation, _one_by_one),
        *_costs(costs),
    ]


def _own(part: str, precision: str = "float32") -> Fastest:
    def fastest(comparison: Comparison) -> Variant | None:
        names = (name for name in own_cases(comparison, part) if name not in WITH_OWN_TARGET)
        return comparison.fastest(tuple(names), precision)

    return fastest


def _named(name: str, precision: str = "float32") -> Fastest:
    return lambda comparison: comparison.fastest((name,), precision)


_evaluation, _one_by_one = _named("evaluation"), _named("one after another")


def _ratio(
    comparisons: list[Comparison], subject: str, over: Fastest, under: Fastest
) -> tuple[Spread | None, str]:
    """The ratio in the first group that has both, and what was compared."""
    for comparison in _with_threads(comparisons, subject):
        ours, theirs = over(comparison), under(comparison)
        if ours is not None and theirs is not None:
            return comparison.ratio(ours, theirs), f"{ours.label} / {theirs.label}"
    return None, "not measured"


def _online_speed(comparisons: list[Comparison]) -> Target:
    name = "online loop, one update a step: environment steps a second"
    target = Target(name, 115, True, "")
    for comparison in _with_threads(comparisons, "PEX"):
        loop = comparison.fastest((ONE_UPDATE,))
        if loop is not None:
            jax = f"{JAX_BESIDE:.0f} IQL updates"
            note = f"{loop.label}; wanted of 2 cores on which JAX does {jax}"
            return replace(target, found=comparison.rate(loop), note=note)
    return target


def _protocol(
    comparisons: list[Comparison], precision: str, *, side_by_side: bool = False
) -> Target:
    """Time of both stages, without evaluations, of what the released code would take here.

    With `side_by_side`, half of the time of two runs at once, as the other has run alone.
    """
    which = ", two runs side by side" if side_by_side else ""
    name = f"offline and online, {precision}{which}: of the released code's time"
    target = Target(name, 0.4, False, "x")
    offline, online = _own("b", precision), _own("c", precision)
    if side_by_side:
        offline, online = (_named(case, precision) for case in SIDE_BY_SIDE)
    jax = _fastest_of(comparisons, "IQL", _named("JAX"))
    fit = _fastest_of(comparisons, "IQL", offline)
    loop = _fastest_of(comparisons, "PEX", online)
    if jax is None or fit is None or loop is None:
        return target
    released = OFFLINE_UPDATES / RELEASED_UPDATES + ONLINE_STEPS / RELEASED_STEPS
    updates = INITIAL_UPDATES + UPDATES_PER_STEP * ONLINE_STEPS
    ours = OFFLINE_UPDATES / fit[1] + updates / loop[1]
    note = (
        f"{fit[0].label} and {loop[0].label}, {ours:.0f} s{' a run' if side_by_side else ''}; "
        f"{OFFLINE_UPDATES:,} updates, then {updates:,.0f} with {ONLINE_STEPS:,} steps; the "
        "released code has one update a step, and runs alone with 2 threads"
    )
    return replace(target, found=Spread.once(ours / (released * JAX_BESIDE / jax[1])), note=note)


def _fastest_of(
    comparisons: list[Comparison], subject: str, which: Fastest
) -> tuple[Variant, float] | None:
    """What is fastest in the first group that has it, and its median rate."""
    for comparison in _with_threads(comparisons, subject):
        variant = which(comparison)
        if variant is not None:
            return variant, comparison.rate(variant).median
    return None


def _with_threads(comparisons: list[Comparison], subject: str) -> Iterator[Comparison]:
    """The comparisons of a subject with the number of threads that targets are for."""
    for comparison in comparisons:
        if (comparison.group.subject, comparison.group.threads) == (subject, THREADS):
            yield comparison


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
