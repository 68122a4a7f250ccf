"""Which strategies and stages are refused, and what a rank says that lost another one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import FSDPStrategy

from pex_lightning.cli import ranks
from pex_lightning.cli.ranks import Ranks, check_same_processes, check_strategy
from pex_lightning.errors import UserError

GLOO = "[/pytorch/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:42932: Connection reset"


def alone() -> Any:
    """A trainer of one process."""
    return SimpleNamespace(strategy=SimpleNamespace(launcher=None))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ranks leave their errors; nobody waits long for them."""
    monkeypatch.setenv("PEX_LIGHTNING_RANKS", str(tmp_path))
    monkeypatch.setattr(ranks, "_CAUSE_SECONDS", 0.2)
    monkeypatch.setattr(ranks, "_POLL_SECONDS", 0.05)
    return tmp_path


def lose(run: Ranks, error: Exception) -> None:
    with run, run.training(alone()):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError(GLOO), torch.distributed.DistBackendError("NCCL: remote error")]
)
def test_a_rank_that_lost_another_tells_that_ones_error(folder: Path, error: Exception):
    (folder / "3").write_text("the disk is full.")
    with pytest.raises(UserError, match=r"process 3 of this run failed: the disk is full\. Go on"):
        lose(Ranks(), error)
    # What it says is no cause for others.
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_the_first_error_counts_and_says_only_once_how_to_go_on(folder: Path):
    for name, text, when in (("1", "late", 20), ("2", "early; go on with --ckpt_path last", 10)):
        (folder / name).write_text(text)
        os.utime(folder / name, (when, when))
    with pytest.raises(UserError) as raised:
        lose(Ranks(), RuntimeError(GLOO))
    assert str(raised.value) == ("process 2 of this run failed: early; go on with --ckpt_path last")


def test_what_is_not_known_is_not_guessed(folder: Path):
    with pytest.raises(UserError, match=r"has ended or cannot be reached. Go on") as raised:
        lose(Ranks(), RuntimeError(GLOO))
    assert "gloo" not in str(raised.value)
    with pytest.raises(UserError, match="DistNetworkError: the port is taken"):
        lose(Ranks(), torch.distributed.DistNetworkError("the port is taken"))


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), UserError("wrong"), OSError(28)])
def test_other_errors_stay_what_they_are_and_are_left_for_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(type(error)) as raised:
        lose(Ranks(), error)
    assert raised.value is error
    assert str(error) in (folder / "2").read_text()


def test_the_children_that_do_not_end_are_killed_and_a_killed_one_is_named_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranks, "_GRACE_SECONDS", 0.2)
    run = Ranks()
    codes = ("import os; os._exit(2)", "import os; os.kill(os.getpid(), 9)", "input()")
    run._children = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for code in codes
    ]
    for child in run._children[:2]:
        child.wait()
    with pytest.raises(UserError, match="process 2 of this run was ended by SIGKILL, perhaps for"):
        lose(run, RuntimeError(GLOO))
    assert all(child.returncode is not None for child in run._children)
    assert not folder.exists()


@pytest.mark.parametrize("stops", [False, True])
def test_a_rank_is_ended_at_once_unless_it_is_about_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stops: bool
):
    """A child that was told to stop may be gone before the first rank has closed everything."""
    exits: list[int] = []
    monkeypatch.setattr(ranks, "_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(ranks.os, "_exit", exits.append)
    run = Ranks()
    run._trainer = SimpleNamespace(should_stop=stops)
    run._children = [subprocess.Popen([sys.executable, "-c", "import os; os._exit(143)"])]
    run._watch()
    run._children[0].wait()
    end = time.monotonic() + 2
    while not exits and time.monotonic() < end:
        time.sleep(0.05)
    run._done.set()
    assert exits == ([] if stops else [2])
    said = "error: process 1 of this run ended with exit code 143; see what it said. Go on with"
    assert (said in capsys.readouterr().err) == (not stops)


def trainer(**arguments: Any) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **arguments)


def test_processes_that_hold_parts_of_a_network_are_refused():
    with pytest.raises(
        UserError, match=r"--trainer.strategy is fsdp, but its processes hold parts"
    ):
        check_strategy(FSDPStrategy(), "--trainer", "fsdp")
    check_strategy(trainer(devices=2, strategy="ddp").strategy, "--trainer", "ddp")
    check_strategy(trainer(devices=1).strategy, "--trainer", "auto")


def test_processes_with_other_devices_are_refused():
    two = trainer(devices=2, strategy="ddp")
    check_same_processes(two, trainer(devices=2, strategy="ddp_find_unused_parameters_true"))
    strategy = SimpleNamespace(root_device=torch.device("cuda", 1))
    cuda: Any = SimpleNamespace(world_size=2, num_nodes=1, strategy=strategy)
    with pytest.raises(UserError, match=r"with cuda, --trainer.* for 2 on 1 with cpu"):
        check_same_processes(two, cuda)
    # One process moves from one device to another.
    cuda.world_size = 1
    check_same_processes(trainer(devices=1), cuda)
