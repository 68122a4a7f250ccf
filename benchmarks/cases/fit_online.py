"""The command `pex-lightning fit` in AntMaze: PEX, with updates and environment steps in turns.

As `conf/antmaze.yaml` has it, from an offline checkpoint with weights that are as good as random,
with few environment steps before the first update, and no updates before the steps go on.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.cases.shared.fit import (
    ONLINE_JOB,
    checkpoint_argument,
    fit_arguments,
    run_in_turns,
)
from benchmarks.cases.shared.setting import UPDATES_PER_STEP, Gate

START_STEPS = 300


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    arguments = fit_arguments(ONLINE_JOB, folder, precision)
    arguments += [checkpoint_argument(folder), f"--data.start_steps={START_STEPS}"]
    arguments += ["--data.initial_updates=0", f"--data.updates_per_step={UPDATES_PER_STEP}"]
    run_in_turns([*arguments, *extra], gate)
