"""The command `pex-lightning fit` in AntMaze: PEX, one update per environment step.

As `conf/antmaze.yaml` has it, from an offline checkpoint with weights that are as good as random,
and with few environment steps before the first update.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.cases.shared.fit import (
    ONLINE_JOB,
    checkpoint_argument,
    fit_arguments,
    run_in_turns,
)
from benchmarks.cases.shared.setting import Gate

START_STEPS = 300


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    arguments = fit_arguments(ONLINE_JOB, folder, precision)
    arguments += [checkpoint_argument(folder), f"--data.start_steps={START_STEPS}"]
    run_in_turns([*arguments, *extra], gate)
