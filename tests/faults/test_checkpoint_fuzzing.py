"""Damaged, altered and hostile checkpoints: loaded as they were, or refused in one message."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mutations import SEED_NAMES, SEEDS, altered, attempt, mutated
from pex_lightning.algorithms import load_algorithm
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.envs import make_env
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint

seeds = pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)


def load(path: Path) -> None:
    load_algorithm(read_checkpoint(path))


@pytest.fixture
def run(toy: Any) -> Path:
    """A resumable checkpoint of PEX."""
    saver = RunCheckpoint(toy.folder, 10, Evaluation(1, 10**6, seed=0, num_envs=1))
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[saver])
    return toy.folder / "last.ckpt"


@seeds
@pytest.mark.parametrize("count", [20, pytest.param(1_500, marks=pytest.mark.long)])
def test_damaged_bytes_are_refused(count: int, seed: int, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ckpt"
    for damaged in mutated(run.read_bytes(), count, seed, head=2**14):
        path.write_bytes(damaged)
        _, message = attempt(load, path)
        assert message is None or str(path) in message


@seeds
@pytest.mark.parametrize("count", [20, pytest.param(1_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("part", ["pex_lightning", "hyper_parameters", "state_dict"])
def test_altered_values_are_refused(
    part: str, count: int, seed: int, run: Path, tmp_path: Path
) -> None:
    raw, path = torch.load(run, weights_only=True), tmp_path / "altered.ckpt"
    for value in altered(dict(raw[part]), seed, count):
        torch.save({**raw, part: value}, path)
        attempt(load, path)


@seeds
@pytest.mark.parametrize("count", [40])
@pytest.mark.parametrize("part", ["optimizer_states", "loops", "callbacks", "random_state"])
@pytest.mark.long
def test_an_altered_state_of_training_is_refused_by_the_resume(
    part: str, count: int, seed: int, command, finished: Path, tmp_path: Path, tiny
) -> None:
    last = finished / "online" / "checkpoints" / "last.ckpt"
    raw = torch.load(last, weights_only=True)
    folder = tmp_path / "altered"
    folder.mkdir()
    (folder / "replay").symlink_to(last.parent / "replay")
    for number, value in enumerate(altered(raw[part], seed, count)):
        torch.save({**raw, part: value}, folder / "last.ckpt")
        arguments = [f"--ckpt_path={folder / 'last.ckpt'}", f"--run.name={number}"]
        outcome = command(*tiny(tmp_path, *arguments, "--trainer.max_steps=41"))
        assert outcome.code in (0, 2), outcome.err
        assert "Traceback" not in outcome.err


def test_a_pipe_as_an_environments_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ant.xml")
    with pytest.raises(UserError, match=r"xml_file is .*ant\.xml', a pipe, a device or a socket"):
        make_env("Ant-v5", {"xml_file": str(tmp_path / "ant.xml")})


def test_a_pipe_as_a_checkpoint_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.ckpt")
    _, message = attempt(read_checkpoint, tmp_path / "last.ckpt", seconds=2)
    assert message is not None
    assert "is not a file" in message
