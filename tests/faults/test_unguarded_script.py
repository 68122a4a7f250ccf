"""A script without a main guard: a process that it starts does not run all of it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pytorch_lightning import Trainer
from pex_lightning.algorithms import IQL, PEX
from pex_lightning.data.online import OnlineData
from pex_lightning.handover import read_checkpoint

def train(module, data):
    trainer = Trainer(
        max_steps=20, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    print("trained", type(module).__name__, flush=True)
    trainer.save_checkpoint("a.ckpt")

data = OnlineData(
    source="make", dataset="pointmaze-medium", rows=2000, num_collectors=1, start_steps=20,
    batch_size=16,
)
train(IQL(hidden_dims=[8, 8]), data.offline_stage())
pex = PEX(hidden_dims=[8, 8])
pex.hand_over(read_checkpoint("a.ckpt"))
train(pex, data)
"""


@pytest.mark.long
@pytest.mark.slow
def test_the_process_refuses_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    outcome = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 1
    assert outcome.stdout.split("\n").count("trained IQL") == 1
    assert "error: this script starts processes, each of which has run it again" in outcome.stderr
    last = outcome.stderr.strip().splitlines()[-1]
    assert "collector 0 ended with exit code 1" in last
    assert 'if __name__ == "__main__":' in last
