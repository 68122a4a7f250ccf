"""The command ``pex-lightning fit`` on a dataset: IQL as ``conf/iql/antmaze.yaml`` has it."""

from __future__ import annotations

import sys
from pathlib import Path

from gate import Gate
from gate_callback import GateCallback

from cases.fit_arguments import fit_arguments
from pex_lightning.cli import main

GATE = "--trainer.callbacks+=gate_callback.GateCallback"


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    GateCallback.gate = gate
    sys.exit(main([*fit_arguments("iql/antmaze.yaml", folder, precision), GATE, *extra]))
