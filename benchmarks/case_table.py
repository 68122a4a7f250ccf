"""What ``speed.py`` measures, with which settings, and what is compared with what."""

from __future__ import annotations

import importlib.util
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from stopwatch import Command

from pex_lightning.cli.console import BRIEF_WAIT

PRECISIONS = ("float32", "bf16")
MOST_PROCESSES = 14
"""In a group; each takes about half a gigabyte."""
PARTS = {
    "a": "the update alone",
    "b": "the whole offline fit",
    "c": "the online loop, one update per environment step",
    "d": "collection alone",
    "e": "evaluation",
}


@dataclass(frozen=True)
class Case:
    """Something that is counted while it is done.

    Attributes:
        part: Its key in ``PARTS``.
        name: In the report.
        subject: Cases of a subject take turns with each other.
        quantity: What is counted, in plural; ratios are between cases of the same quantity.
        entry: ``MODULE:FUNCTION`` in ``cases/``.
        requires: Python module without which it is skipped.
        install: What installs that.
        ours: Whether it is this package's.
        wait: How threads wait for each other: values of ``OMP_WAIT_POLICY`` to try from two
            threads on, ``BRIEF`` being what ``fit`` sets (a short spin, then sleep) and ``unset``
            what users of other libraries have; the first counts for one thread.
        precisions: Those that it has.
        least_threads: Not measured with fewer threads.
        pinned: Whether it gets as many CPUs as threads, rather than all.
        fit: Whether it is a training loop that is held by the gate, rather than a ``Work``.
        arguments: More command line.
    """

    part: str
    name: str
    subject: str
    quantity: str
    entry: str
    requires: str = "pex_lightning"
    install: str = "-e ."
    ours: bool = True
    wait: tuple[str, ...] = ("BRIEF",)
    precisions: tuple[str, ...] = PRECISIONS
    least_threads: int = 1
    pinned: bool = True
    fit: bool = False
    arguments: tuple[str, ...] = ()


def _peer(name: str, module: str, requires: str, install: str) -> Case:
    entry, wait = f"{module}:build", ("unset",)
    return Case("a", name, "IQL", "updates", entry, requires, install, ours=False, wait=wait)


BOTH_WAITS = ("BRIEF", "ACTIVE")
ONLY_FLOAT32 = ("float32",)
# As a run of this length is by itself, except that the first updates are compiled, too.
COMPILED = ("--model.compile_update=true",)
# Of a subject and quantity the first is what the others' ratios are to.
CASES = (
    Case("a", "ours", "IQL", "updates", "ours:build", wait=BOTH_WAITS),
    Case("a", "ours compiled", "IQL", "updates", "ours:build_compiled", wait=BOTH_WAITS),
    _peer("TorchRL", "torchrl_iql", "torchrl", "torchrl"),
    _peer("d3rlpy", "d3rlpy_iql", "d3rlpy", "'d3rlpy>=2.8'"),
    # XLA has threads of its own: no OpenMP.
    _peer("JAX", "jax_iql", "jax", "'jax>=0.6'"),
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
    Case("a", "PEX", "PEX", "updates", "ours_pex:build", wait=BOTH_WAITS),
    Case("a", "PEX compiled", "PEX", "updates", "ours_pex:build_compiled", wait=BOTH_WAITS),
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


@dataclass(frozen=True)
class Variant:
    """A case with the settings of its process; ``wait`` is ``OMP_WAIT_POLICY``."""

    case: Case
    precision: str
    threads: int
    wait: str

    @property
    def label(self) -> str:
        """As it is named to the user."""
        wait = "" if self.threads == 1 or self.case.wait == ("unset",) else f", {self.wait.lower()}"
        return f"{self.case.name}, {self.precision}{wait}"


@dataclass(frozen=True)
class Group:
    """Variants that take turns with each other."""

    subject: str
    precision: str | None
    threads: int
    variants: tuple[Variant, ...]

    @property
    def title(self) -> str:
        """As it is named to the user."""
        unit = "thread" if self.threads == 1 else "threads"
        precision = "" if self.precision is None else f" {self.precision},"
        return f"{self.subject},{precision} {self.threads} {unit}"


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


def command(variant: Variant, folder: Path, arguments: tuple[str, ...] = ()) -> Command:
    """How a variant's process is started.

    Args:
        variant: What it measures.
        folder: Where the made-up dataset is, and where runs go.
        arguments: More command line.
    """
    case = variant.case
    line = [sys.executable, str(Path(__file__).with_name("serve.py")), case.entry]
    line += ["--precision", variant.precision, "--pin", str(variant.threads * case.pinned)]
    if case.fit:
        line += ["--folder", str(folder)]
    return Command(variant.label, [*line, *case.arguments, *arguments], environment(variant))


def environment(variant: Variant) -> dict[str, str]:
    """The environment of a measured process."""
    settings = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        settings[name] = str(variant.threads)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        settings.pop(name, None)
    if variant.wait == "BRIEF":
        settings |= BRIEF_WAIT
    elif variant.wait != "unset":
        settings["OMP_WAIT_POLICY"] = variant.wait
    settings["BENCH_RUN"] = f"run-{uuid.uuid4().hex}"
    settings["JAX_PLATFORMS"] = "cpu"
    settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings
