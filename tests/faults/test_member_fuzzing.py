"""Damaged files of old policies: opened and clipped, or refused in one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import old_policies
from mutations import SEED_NAMES, SEEDS, altered, attempt, mutated
from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.handover import read_checkpoint
from policies.test_stable_baselines import ppo, write

STATES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
seeds = pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)

WRITERS: dict[str, Callable[[Path], Any]] = {
    "old.pt": old_policies.write_torchscript,
    "old.pt2": old_policies.write_exported,
    "old.zip": lambda path: write(path, ppo()[1]),
}


def check(toy: Any, path: Path) -> None:
    module = PEX(members=[str(path)], offline_member=False, critic_start="fresh", hidden_dims=[4])
    module.attach(toy.description())
    actions = module.policies.modes(STATES)
    assert actions.shape == (2, 5, 2)
    low, high = torch.tensor(toy.low), torch.tensor(toy.high)
    assert ((actions >= low) & (actions <= high)).all()


@seeds
@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_refused(
    name: str, count: int, seed: int, toy: Any, tmp_path: Path
) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    check(toy, path)
    for damaged in mutated(path.read_bytes(), count, seed):
        path.write_bytes(damaged)
        _, message = attempt(check, toy, path)
        assert message is None or name in message, message


@seeds
@pytest.mark.parametrize("count", [30, pytest.param(1_000, marks=pytest.mark.long)])
def test_altered_settings_of_stable_baselines_are_refused(
    count: int, seed: int, toy: Any, tmp_path: Path
) -> None:
    state, path = ppo()[1], tmp_path / "old.zip"
    settings = {
        "policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"},
        "action_space": {"low": "[-1.  -0.5]", "high": "[1. 2.]"},
        "use_sde": False,
    }
    for value in altered(settings, seed, count):
        write(path, state, **json.loads(json.dumps(value)))
        attempt(check, toy, path)


@seeds
@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.long)])
def test_altered_members_and_growth_of_a_checkpoint_are_refused(
    count: int, seed: int, toy: Any, tmp_path: Path
) -> None:
    members = [{"path": str(toy.offline_path), "name": "old"}]
    module = toy.algorithm("PEX", members=members, grow_at=[5], largest_set=5)
    toy.fit(module, 10)
    path = tmp_path / "a.ckpt"
    module.trainer.save_checkpoint(path)
    raw = torch.load(path, weights_only=True)
    keys = ("members", "grow_at", "largest_set", "grow_when_stalled", "offline_member")
    found = {key: raw["hyper_parameters"][key] for key in keys}
    for value in altered(found, seed, count):
        settings = {k: v for k, v in raw["hyper_parameters"].items() if k not in keys}
        torch.save({**raw, "hyper_parameters": {**settings, **value}}, path)
        attempt(lambda: load_algorithm(read_checkpoint(path)))


@pytest.mark.parametrize("entry", ["evil:function", "evil.pt", "evil.onnx", "evil.pt2"])
def test_a_hostile_checkpoint_cannot_name_code(
    entry: str, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = toy.algorithm("PEX", members=["old_policies:controller"])
    toy.fit(module, 5)
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    raw = torch.load(tmp_path / "a.ckpt", weights_only=True)
    raw["hyper_parameters"]["members"] = [{"path": entry, "name": "controller"}]
    torch.save(raw, tmp_path / "a.ckpt")
    _, message = attempt(lambda: load_algorithm(read_checkpoint(tmp_path / "a.ckpt")))
    assert message is not None
    assert "is code, which is not run" in message
    assert not (tmp_path / "executed").exists()
