"""What the speed benchmark measures, with which settings, and what is compared with what."""

from __future__ import annotations

import importlib.util

from benchmarks.speed.case import Case, Group, Variant

MOST_PROCESSES = 14
"""In a group; each takes about half a gigabyte."""
PARTS = {
    "a": "the update alone",
    "b": "the whole offline fit",
    "c": "the online loop",
    "d": "collection alone",
    "e": "evaluation",
}


def _peer(name: str, module: str, requires: str, install: str) -> Case:
    entry, wait = f"{module}:build", ("unset",)
    return Case("a", name, "IQL", "updates", entry, requires, install, ours=False, wait=wait)


ONE_UPDATE = "PEX loop, 1 update a step"
SIDE_BY_SIDE = "fit, 2 runs side by side", "PEX loop, 2 runs side by side"
BOTH_WAITS = ("BRIEF", "ACTIVE")
ONLY_FLOAT32 = ("float32",)
# As a run of this length is by itself, except that the first updates are compiled, too.
COMPILED = ("--model.compile_update=true",)
# Of a subject and quantity the first is what the others' ratios are to.
CASES = (
    Case("a", "ours", "IQL", "updates", "iql_update:build", wait=BOTH_WAITS),
    Case("a", "ours compiled", "IQL", "updates", "iql_update:build_compiled", wait=BOTH_WAITS),
    _peer("TorchRL", "torchrl_update", "torchrl", "torchrl"),
    _peer("d3rlpy", "d3rlpy_update", "d3rlpy", "'d3rlpy>=2.8'"),
    # XLA has threads of its own: no OpenMP.
    _peer("JAX", "jax_update", "jax", "'jax>=0.6'"),
    Case(
        "b",
        "fit",
        "IQL",
        "updates",
        "fit_offline:fit",
        wait=BOTH_WAITS,
        fit=True,
        arguments=COMPILED,
    ),
    Case(
        "b",
        "fit, plain",
        "IQL",
        "updates",
        "fit_offline:fit",
        precisions=ONLY_FLOAT32,
        least_threads=2,
        fit=True,
        arguments=("--model.compile_update=false",),
    ),
    Case(
        "b",
        SIDE_BY_SIDE[0],
        "IQL",
        "updates",
        "fit_offline:fit",
        least_threads=2,
        pinned=False,
        fit=True,
        arguments=COMPILED,
        copies=2,
    ),
    Case(
        "b",
        "d3rlpy fit",
        "IQL",
        "updates",
        "d3rlpy_fit:fit",
        requires="d3rlpy",
        install="'d3rlpy>=2.8'",
        ours=False,
        wait=("unset",),
        precisions=ONLY_FLOAT32,
        fit=True,
    ),
    Case("a", "PEX", "PEX", "updates", "pex_update:build", wait=BOTH_WAITS),
    Case("a", "PEX compiled", "PEX", "updates", "pex_update:build_compiled", wait=BOTH_WAITS),
    Case(
        "c",
        "PEX loop",
        "PEX",
        "updates",
        "fit_online:fit",
        wait=BOTH_WAITS,
        pinned=False,
        fit=True,
        arguments=COMPILED,
    ),
    Case(
        "c",
        "PEX loop, 1 collector",
        "PEX",
        "updates",
        "fit_online:fit",
        wait=BOTH_WAITS,
        pinned=False,
        fit=True,
        arguments=(*COMPILED, "--data.num_collectors=1"),
    ),
    Case(
        "c",
        ONE_UPDATE,
        "PEX",
        "updates",
        "fit_online:fit",
        precisions=ONLY_FLOAT32,
        wait=BOTH_WAITS,
        pinned=False,
        fit=True,
        arguments=(*COMPILED, "--data.updates_per_step=1"),
    ),
    Case(
        "c",
        SIDE_BY_SIDE[1],
        "PEX",
        "updates",
        "fit_online:fit",
        least_threads=2,
        pinned=False,
        fit=True,
        arguments=COMPILED,
        copies=2,
    ),
    Case(
        "d",
        "collection",
        "PEX",
        "environment steps",
        "collection:build",
        precisions=ONLY_FLOAT32,
    ),
    Case(
        "e",
        "one after another",
        "evaluation",
        "episodes",
        "evaluation:one_by_one",
        precisions=ONLY_FLOAT32,
        least_threads=2,
        pinned=False,
    ),
    Case(
        "e",
        "evaluation",
        "evaluation",
        "episodes",
        "evaluation:as_fit_does",
        precisions=ONLY_FLOAT32,
        least_threads=2,
        pinned=False,
    ),
)


def missing(case: Case) -> str | None:
    """Why a case cannot be measured here, or None."""
    if importlib.util.find_spec(case.requires) is not None:
        return None
    return f"{case.requires} is not installed: pip install {case.install}"


def variants(case: Case, threads: int, precisions: list[str]) -> list[Variant]:
    """What of a case is measured with so many threads."""
    if threads < case.least_threads:
        return []
    return [
        Variant(case, precision, threads, wait)
        for precision in precisions
        if precision in case.precisions
        for wait in (case.wait if threads > 1 else case.wait[:1])
    ]


def groups(cases: list[Case], threads: list[int], precisions: list[str]) -> list[Group]:
    """What is compared with what.

    Where there are too many for the memory, precisions are apart. Own bare updates in float32 then
    take turns with those in bf16 too.
    """
    found = []
    for count in threads:
        for subject in dict.fromkeys(case.subject for case in cases):
            own = [case for case in cases if case.subject == subject]
            together = [v for case in own for v in variants(case, count, precisions)]
            if len(together) <= MOST_PROCESSES:
                found.append(Group(subject, None, count, tuple(together)))
                continue
            for precision in precisions:
                apart = [v for case in own for v in variants(case, count, [precision])]
                if precision != "float32":
                    bare = [case for case in own if case.ours and case.part == "a"]
                    apart = [v for case in bare for v in variants(case, count, ["float32"])] + apart
                found.append(Group(subject, precision, count, tuple(apart)))
    return [group for group in found if group.variants]
