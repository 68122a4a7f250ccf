"""The method that CONTRIBUTING.md shows, in a user's own module, with every command."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import Command, cache, command, refused
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.compilation.compiler import has_compiler

__all__ = ["cache", "command", "refused"]

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


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The method's module can be imported, for the length of a test."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 45
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_methods", None)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["false", pytest.param("true", marks=pytest.mark.long)])
def test_it_trains_hands_over_resumes_is_evaluated_and_exported(
    compiled: str, own_method: None, command: Command, refused: Any, tmp_path: Path
) -> None:
    if compiled == "true" and not has_compiler():
        pytest.skip("needs a C++ compiler (g++)")
    config = tmp_path / "own.yaml"
    config.write_text(CONFIG.format(root=ROOT, folder=tmp_path / "runs", compiled=compiled))
    fit = command("fit", "--config", str(config))
    assert fit.code == 0, fit.err
    assert "Hand-over from" in fit.err
    path = tmp_path / "runs" / "own" / "online" / "checkpoints" / "last.ckpt"
    header = read_checkpoint(path).header
    assert (header.algorithm, header.stage) == ("my_methods.FilteredCloning", "online")
    assert (header.members, header.env_steps) == (("cloned",), 70)

    more = command("fit", "--config", str(config), "--ckpt_path=last", "--trainer.max_steps=30")
    assert more.code == 0, more.err
    assert read_checkpoint(path).header.gradient_steps == 30

    # A checkpoint does not say what is imported.
    del sys.modules["my_methods"]
    test = ["test", "--ckpt_path", str(path), "--evaluation.episodes=2"]
    refused(command(*test), "--model my_methods.FilteredCloning")
    refused(command(*test, "--model=IQL"), "is of my_methods.FilteredCloning")
    tested = command(*test, "--model=my_methods.FilteredCloning")
    assert tested.code == 0, tested.err
    assert json.loads(tested.out)["algorithm"] == "my_methods.FilteredCloning"

    out = tmp_path / "replay.hdf5"
    exported = command("data", "export", "--ckpt_path", str(path), "--out", str(out))
    assert exported.code == 0, exported.err
    assert json.loads(exported.out)["rows"] == 80
