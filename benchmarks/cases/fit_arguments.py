"""Arguments that ``pex-lightning fit`` is measured with; all else is as the job's file has it."""

from __future__ import annotations

import os
from pathlib import Path

from made_up import DATASET

CONF = Path(__file__).resolve().parents[2] / "conf"
ENDLESS = 10**9
FIRST_RUN = "first"
CHECKPOINT = f"{FIRST_RUN}/offline/checkpoints/last.ckpt"
"""What the short run of ``run_costs.py`` leaves: weights that are as good as random."""
NAMES = {"float32": "32-true", "bf16": "bf16-mixed"}


def fit_arguments(job: str, folder: Path, precision: str, max_steps: int = ENDLESS) -> list[str]:
    """The command line, with one short evaluation at the start and none later.

    Args:
        job: File in ``conf/``.
        folder: Where the made-up dataset is, and where runs go.
        precision: One of ``NAMES``.
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
