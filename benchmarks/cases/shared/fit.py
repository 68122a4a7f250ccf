"""The command `pex-lightning fit` as it is measured, all else being as the job's file has it.

This module imports neither torch nor the package's algorithms: the measured process loads them in
the command itself, and the process that holds the stopwatch never needs them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from benchmarks.cases.shared.made_up_dataset import DATASET
from benchmarks.cases.shared.setting import Gate
from pex_lightning.cli import main
from pex_lightning.cli.console import BRIEF_WAIT

ROOT = Path(__file__).resolve().parents[3]
"""The root of the repository, from which `benchmarks` can be imported."""
CONF = ROOT / "conf"
FIT_WAIT = BRIEF_WAIT
"""The environment with which `fit` says how OpenMP's threads wait."""
OFFLINE_JOB, ONLINE_JOB = "iql/antmaze.yaml", "antmaze.yaml"
ENDLESS = 10**9
FIRST_RUN = "first"
CHECKPOINT = f"{FIRST_RUN}/offline/checkpoints/last.ckpt"
"""What the short run of `run_costs.py` leaves: weights that are as good as random."""
NAMES = {"float32": "32-true", "bf16": "bf16-mixed"}


def fit_arguments(job: str, folder: Path, precision: str, max_steps: int = ENDLESS) -> list[str]:
    """The command line, with one short evaluation at the start and none later.

    Args:
        job: File in `conf/`.
        folder: Where the made-up dataset is, and where runs go.
        precision: One of `NAMES`.
        max_steps: Gradient steps.
    """
    settings = {
        "config": CONF / job,
        "data.path": folder / DATASET,
        "run.root": folder,
        # From the environment, so that all processes of a run have the same.
        "run.name": os.environ.get("BENCH_RUN", FIRST_RUN),
        "evaluation.episodes": 1,
        "evaluation.every": ENDLESS,
        "trainer.accelerator": "cpu",
        "trainer.precision": NAMES[precision],
        "trainer.max_steps": max_steps,
    }
    return ["fit", *(f"--{key}={value}" for key, value in settings.items())]


def checkpoint_argument(folder: Path) -> str:
    """The argument that starts the online stage from the checkpoint that a short run left."""
    return f"--offline.ckpt_path={folder / CHECKPOINT}"


def callback_argument(name: str) -> str:
    """The argument that adds a callback; `name` is its module and class, with dots."""
    return f"--trainer.callbacks+={name}"


def run_in_turns(arguments: list[str], gate: Gate) -> NoReturn:
    """Run the command in this process, held back by the gate, until there are no more turns."""
    from benchmarks.cases.shared.gate_callback import GateCallback  # noqa: PLC0415

    GateCallback.gate = gate
    name = f"{GateCallback.__module__}.{GateCallback.__name__}"
    sys.exit(main([*arguments, callback_argument(name)]))


def plain_updates() -> int:
    """The number of updates at the start of a run that are never compiled ones."""
    from pex_lightning.updates.executor import PLAIN_UPDATES  # noqa: PLC0415

    return PLAIN_UPDATES
