"""The command `pex-lightning fit` on a dataset: IQL as `conf/iql/antmaze.yaml` has it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cases.shared.fit import OFFLINE_JOB, fit_arguments, run_in_turns
from benchmarks.cases.shared.setting import Gate


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    run_in_turns([*fit_arguments(OFFLINE_JOB, folder, precision), *extra], gate)
