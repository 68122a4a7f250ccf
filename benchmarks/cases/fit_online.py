"""The command ``pex-lightning fit`` in AntMaze: PEX, one update per environment step.

As ``conf/antmaze.yaml`` has it, from an offline checkpoint with weights that are as good as random,
and with few environment steps before the first update.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gate import Gate
from gate_callback import GateCallback

from cases.fit_arguments import CHECKPOINT, fit_arguments
from cases.fit_offline import GATE
from pex_lightning.cli import main

START_STEPS = 300


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    GateCallback.gate = gate
    arguments = fit_arguments("antmaze.yaml", folder, precision)
    arguments += [f"--offline.ckpt_path={folder / CHECKPOINT}", f"--data.start_steps={START_STEPS}"]
    sys.exit(main([*arguments, GATE, *extra]))
