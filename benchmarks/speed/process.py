"""How a measured process is started: its command line and its environment."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from benchmarks.cases.shared.fit import FIT_WAIT, ROOT
from benchmarks.speed.case import Variant
from benchmarks.speed.stopwatch import Command


def command(variant: Variant, folder: Path, arguments: tuple[str, ...] = ()) -> Command:
    """How a variant's process is started.

    Args:
        variant: What it measures.
        folder: Where the made-up dataset is, and where runs go.
        arguments: More command line.
    """
    case = variant.case
    line = [sys.executable, "-m", "benchmarks.speed.serve"]
    if case.copies > 1:
        line = [sys.executable, "-m", "benchmarks.speed.side_by_side", f"--copies={case.copies}"]
    line += [case.entry, "--precision", variant.precision]
    line += ["--pin", str(variant.threads * case.pinned)]
    if case.fit:
        line += ["--folder", str(folder)]
    return Command(variant.label, [*line, *case.arguments, *arguments], environment(variant))


def environment(variant: Variant) -> dict[str, str]:
    """The environment of a measured process."""
    settings = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        settings[name] = str(variant.threads // variant.case.copies)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        settings.pop(name, None)
    if variant.wait == "BRIEF":
        settings |= FIT_WAIT
    elif variant.wait != "unset":
        settings["OMP_WAIT_POLICY"] = variant.wait
    settings["PYTHONPATH"] = import_path()
    settings["BENCH_RUN"] = f"run-{uuid.uuid4().hex}"
    settings["JAX_PLATFORMS"] = "cpu"
    settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings


def import_path() -> str:
    """A `PYTHONPATH` with which `benchmarks` is found from every folder."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


def make_dataset(folder: Path) -> None:
    """Write the made-up dataset in a process of its own, which takes its memory with it."""
    line = [sys.executable, "-m", "benchmarks.cases.shared.made_up_dataset", str(folder)]
    subprocess.run(line, check=True, env={**os.environ, "PYTHONPATH": import_path()})
