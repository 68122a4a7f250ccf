"""The method that CONTRIBUTING.md shows, in a user's own module, with every command."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.compilation.compiler import has_compiler

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
base: [{root}/conf/base/common.yaml]
model:
  class_path: my_methods.FilteredCloning
  init_args: {{margin: 0.1, hidden_dims: [16, 16], compile_update: {compiled}}}
data:
  class_path: OnlineData
  init_args:
    source: make
    dataset: pointmaze-medium
    rows: 2000
    reward_transform: subtract_one
    batch_size: 8
    start_steps: 50
    chunk_size: 5
offline:
  max_steps: 20
  model:
    class_path: IQL
    init_args: {{hidden_dims: [16, 16]}}
trainer: {{max_steps: 20, log_every_n_steps: 10}}
evaluation: {{episodes: 2, every: 10}}
run: {{name: own, root: {folder}, save_every: 10}}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `pex-lightning` with the method's module in the path."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 45
    (tmp_path / "my_methods.py").write_text(code)

    def start(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pex_lightning", *args],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "OMP_NUM_THREADS": "1",
            },
        )

    return start


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["false", pytest.param("true", marks=pytest.mark.long)])
def test_it_trains_hands_over_resumes_is_evaluated_and_exported(
    compiled: str, run: Run, tmp_path: Path
) -> None:
    if compiled == "true" and not has_compiler():
        pytest.skip("needs a C++ compiler (g++)")
    config = tmp_path / "own.yaml"
    config.write_text(CONFIG.format(root=ROOT, folder=tmp_path / "runs", compiled=compiled))
    fit = run("fit", "--config", str(config))
    assert fit.returncode == 0, fit.stderr
    assert "Hand-over from" in fit.stderr
    path = tmp_path / "runs" / "own" / "online" / "checkpoints" / "last.ckpt"
    header = read_checkpoint(path).header
    assert (header.algorithm, header.stage) == ("my_methods.FilteredCloning", "online")
    assert (header.members, header.env_steps) == (("cloned",), 70)

    more = run("fit", "--config", str(config), "--ckpt_path=last", "--trainer.max_steps=30")
    assert more.returncode == 0, more.stderr
    assert read_checkpoint(path).header.gradient_steps == 30

    test = ["test", "--ckpt_path", str(path), "--evaluation.episodes=2"]
    refused = run(*test)
    assert refused.returncode == 2
    assert "--model my_methods.FilteredCloning" in refused.stderr
    other = run(*test, "--model=IQL")
    assert other.returncode == 2
    assert "is of my_methods.FilteredCloning" in other.stderr
    tested = run(*test, "--model=my_methods.FilteredCloning")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["algorithm"] == "my_methods.FilteredCloning"

    out = tmp_path / "replay.hdf5"
    exported = run("data", "export", "--ckpt_path", str(path), "--out", str(out))
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["rows"] == 80
