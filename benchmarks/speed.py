"""How fast this is beside other libraries: ``python benchmarks/speed.py`` (or ``nox -s bench``).

Measured so far: IQL's full update (V, Q, policy, Adam, Polyak step) on data in memory, with
observations of 29, actions of 8, batches of 256 and networks of 256×256. Every measurement is a
process of its own, which has as many threads as CPUs (of those it may use, on Linux; elsewhere
JAX takes all). In every round each variant is measured once, so that noise hits all alike. How
waiting threads behave, ``OMP_WAIT_POLICY``, is PASSIVE (what ``fit`` sets), ACTIVE, or
``unset`` (what users of other libraries have); it matters from two threads on.

Writes ``speed.json`` and ``speed.png``. Peers that are not installed are named and left out.

A new case is a file in ``cases/`` and an entry in ``CASES``; what it counts is its ``quantity``,
and its ratios are to the case ``ours`` of the same quantity.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from speed_report import Measurement, Report, Variant, machine, picture, table

PRECISIONS = ("float32", "bf16")
START_UP_SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """A library doing something that is counted.

    Attributes:
        library: Its name in the report; ``ours`` is what others are compared with.
        quantity: What is counted, in plural: ``updates``.
        module: File in ``cases/``.
        requires: Python module without which it is skipped.
        install: What installs that.
        wait: The values of ``OMP_WAIT_POLICY`` to try from two threads on; the first counts for
            one thread.
    """

    library: str
    quantity: str
    module: str
    requires: str
    install: str
    wait: tuple[str, ...]


CASES = (
    Case("ours", "updates", "ours", "pex_lightning", "-e .", ("PASSIVE", "ACTIVE")),
    Case("TorchRL", "updates", "torchrl_iql", "torchrl", "torchrl", ("unset", "PASSIVE")),
    Case("d3rlpy", "updates", "d3rlpy_iql", "d3rlpy", "'d3rlpy>=2.8'", ("unset", "PASSIVE")),
    # XLA has threads of its own: no OpenMP.
    Case("JAX", "updates", "jax_iql", "jax", "'jax>=0.6'", ("unset",)),
)


def missing(case: Case) -> str | None:
    """Why a case cannot be measured here, or None."""
    if importlib.util.find_spec(case.requires) is not None:
        return None
    return f"{case.requires} is not installed: pip install {case.install}"


def variants(case: Case, threads: list[int], precisions: list[str]) -> list[Variant]:
    """What of a case is measured."""
    return [
        Variant(case.library, case.quantity, precision, count, wait)
        for count in threads
        for precision in precisions
        for wait in (case.wait if count > 1 else case.wait[:1])
    ]


def environment(variant: Variant) -> dict[str, str]:
    """The environment of a measuring process."""
    settings = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        settings[name] = str(variant.threads)
    settings.pop("OMP_WAIT_POLICY", None)
    if variant.wait != "unset":
        settings["OMP_WAIT_POLICY"] = variant.wait
    settings["JAX_PLATFORMS"] = "cpu"
    settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings


def rate(module: str, precision: str, threads: int, seconds: float) -> float:
    """Units a second, in this process: after a warm-up, for at least one call and ``seconds``."""
    if hasattr(os, "sched_setaffinity"):
        # Before the library is loaded: XLA takes as many threads as there are CPUs to run on.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    work = importlib.import_module(f"cases.{module}").build(precision)
    _repeat(work, min(1.0, seconds / 3))
    return _repeat(work, seconds)


def _repeat(work: object, seconds: float) -> float:
    from cases.setting import Work  # noqa: PLC0415

    assert isinstance(work, Work)
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds or not count:
        work.step()
        count += work.units
        elapsed = time.perf_counter() - start
    work.finish()
    return count / (time.perf_counter() - start)


def measure(case: Case, variant: Variant, seconds: float) -> float | str:
    """Units a second in a process of its own, or why there are none."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--measure"]
    command += [case.module, variant.precision, str(variant.threads)]
    try:
        answer = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=environment(variant),
            timeout=START_UP_SECONDS + 10 * seconds,
        )
    except subprocess.TimeoutExpired:
        return "it did not end in time"
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"it ended with {answer.returncode}"]
        return lines[-1]
    return float(answer.stdout.splitlines()[-1])


def run(cases: list[Case], settings: argparse.Namespace) -> Report:
    """Measure every case that can be, in interleaved rounds; progress goes to stderr."""
    skipped = {case.library: why for case in cases if (why := missing(case)) is not None}
    for library, why in skipped.items():
        sys.stderr.write(f"skipped {library}: {why}\n")
    todo = [
        (case, variant)
        for case in cases
        if case.library not in skipped
        for variant in variants(case, settings.threads, settings.precisions)
    ]
    measurements: list[Measurement] = []
    for turn in range(settings.rounds):
        for case, variant in todo:
            if variant.label in skipped:
                continue
            found = measure(case, variant, settings.seconds)
            if isinstance(found, str):
                skipped[variant.label] = found
                sys.stderr.write(f"skipped {variant.label}: {found}\n")
                continue
            measurements.append(Measurement(variant, turn, found))
            sys.stderr.write(f"round {turn + 1}: {variant.label}: {found:.1f}/s\n")
    return Report(measurements, skipped)


def main() -> None:
    """Measure, print the ratios, write the numbers and the picture."""
    parser = argparse.ArgumentParser(description="Speed beside other libraries.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        module, precision, threads = settings.measure
        sys.stdout.write(f"{rate(module, precision, int(threads), settings.seconds)}\n")
        return
    load = os.getloadavg()[0]
    report = run(list(CASES), settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    found = {
        "machine": {**machine(), "load_before": load, "load_after": os.getloadavg()[0]},
        "seconds": settings.seconds,
        "rounds": settings.rounds,
        "results": [asdict(row) for row in report.rows()],
        "skipped": report.skipped,
    }
    (settings.out / "speed.json").write_text(json.dumps(found, indent=2) + "\n")
    picture(report, settings.out / "speed.png")
    sys.stdout.write(table(report) + f"written: {settings.out}/speed.json, speed.png\n")


if __name__ == "__main__":
    main()
