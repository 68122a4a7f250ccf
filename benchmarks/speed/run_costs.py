"""What a run costs once: the start of a long `pex-lightning fit` in fresh processes.

It runs twice, the first time without anything that a former run has compiled. The checkpoint that
it leaves is what the online loop is measured from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases.shared.fit import OFFLINE_JOB, callback_argument, fit_arguments
from benchmarks.cases.shared.made_up_dataset import DATASET_BYTES
from benchmarks.speed.process import import_path

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class RunStart:
    """The start of one run.

    Attributes:
        seconds: From the command to the end of the first chunk of updates.
        evaluation_seconds: Of it, what the evaluation at the start took.
        peak_bytes: Largest resident size of the process; None where the system does not say.
        compiler_seconds: What the first chunk of compiled updates took, which waits for them.
        helper_peak_bytes: As `peak_bytes`, of the largest process that this one started.
    """

    seconds: float
    evaluation_seconds: float
    peak_bytes: int | None
    compiler_seconds: float
    helper_peak_bytes: int | None


@dataclass(frozen=True)
class RunCosts:
    """Of an offline run.

    Attributes:
        first: Where nothing has been compiled on this machine before.
        again: After that.
        dataset_bytes: Size of the dataset's columns as float32.
    """

    first: RunStart
    again: RunStart
    dataset_bytes: int = DATASET_BYTES


class RunCostsError(Exception):
    """The run failed; says why."""


def measure_run_costs(folder: Path) -> RunCosts:
    """Run it twice.

    Args:
        folder: Where the made-up dataset is.

    Raises:
        RunCostsError: It failed.
    """
    return RunCosts(first=start_run(folder), again=start_run(folder))


def start_run(folder: Path, arguments: Sequence[str] = ()) -> RunStart:
    """Run it once, with as many threads as it takes by itself.

    Args:
        folder: Where the made-up dataset is.
        arguments: More command line.

    Raises:
        RunCostsError: It failed.
    """
    notes = folder / "first-update.json"
    notes.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pex_lightning"]
    command += fit_arguments(OFFLINE_JOB, folder, "float32")
    command += ["--run.overwrite=true"]
    command += [
        callback_argument("benchmarks.speed.first_update.FirstUpdate"),
        f"--trainer.callbacks.path={notes}",
        *arguments,
    ]
    start = time.time()
    try:
        answer = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=_environment(folder),
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RunCostsError(f"the run did not end within {TIMEOUT_SECONDS:.0f} s") from error
    if answer.returncode or not notes.exists():
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise RunCostsError(f"the run failed: {lines[-1]}")
    found = json.loads(notes.read_text())
    seconds = found["first_update"] - start
    return RunStart(
        seconds,
        found["evaluation_seconds"],
        found["peak_bytes"],
        found["compiler_seconds"],
        found["helper_peak_bytes"],
    )


def _environment(folder: Path) -> dict[str, str]:
    """The user's, but for threads, the path to the callback, and a cache of our own."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    settings["PYTHONPATH"] = import_path()
    settings["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    return settings
