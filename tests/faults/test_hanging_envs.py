"""An environment that hangs ends a run after `--run.env_timeout`; the run says where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import write_random_log
from pex_lightning.handover import read_checkpoint

ENV = "hanging_env:hangs/Here-v0"
MODULE = """
import ctypes, json, multiprocessing, os, time
import gymnasium as gym, numpy as np

class Hangs(gym.Env):
    def __init__(self):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.steps, self.seeded = 0, False
        self.hangs("made")
    def hangs(self, place):
        told = json.loads(os.environ.get("HANGS", "{}"))
        # An evaluation's resets are seeded; while collecting only the first one is.
        here = place == "made" or self.seeded == told.get("evaluating", False)
        if "worker" in told:
            here &= told["worker"] == multiprocessing.current_process().daemon
        if told.get("rank", os.environ.get("LOCAL_RANK")) != os.environ.get("LOCAL_RANK"):
            here = False
        while told.get("at") == place and here and self.steps >= told.get("after", 0):
            if told.get("holds"):
                # As a simulator in C that lets no other Python code run.
                ctypes.PyDLL(None).sleep(10**6)
            time.sleep(1e6)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeded = seed is not None
        self.hangs("reset")
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.steps += 1
        self.hangs("step")
        return np.zeros(3, np.float32), 1.0, False, False, {}
    def close(self):
        self.hangs("close")

gym.register("hangs/Here-v0", entry_point=Hangs, max_episode_steps=20)
"""

Args = Callable[..., list[str]]


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have environments hang `at` a call, here and in processes that are started."""

    def tell(**told: object) -> None:
        monkeypatch.setenv("HANGS", json.dumps(told))

    return tell


@pytest.fixture
def run(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Args:
    """Arguments of a run in an environment that may hang."""
    (tmp_path / "hanging_env.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    write_random_log(tmp_path / "data.hdf5")

    def arguments(*more: str) -> list[str]:
        return tiny(
            tmp_path,
            f"--data.env={ENV}",
            f"--data.path={tmp_path / 'data.hdf5'}",
            "--trainer.max_steps=100",
            "--evaluation.every=1000",
            "--run.save_every=5",
            "--run.env_timeout=2",
            *more,
        )

    return arguments


def resumable(folder: Path, stage: str = "online") -> bool:
    checkpoint = read_checkpoint(folder / "tiny" / stage / "checkpoints" / "last.ckpt")
    return checkpoint.resumable and checkpoint.header.gradient_steps > 0


def ended(process: subprocess.Popen[str], code: int = 2) -> str:
    """What a command said that had to end by itself."""
    _, err = process.communicate(timeout=180)
    assert process.returncode == code, (process.returncode, err)
    assert "Traceback" not in err
    return err


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether no process of a session is left, or is soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = subprocess.run(["pgrep", "-s", str(pid)], capture_output=True, check=False).stdout
        if not left:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.long
def test_a_step_that_hangs_in_a_collector_ends_it(command, refused, run, hangs, tmp_path: Path):
    hangs(at="step", after=90)
    outcome = command(*run("--data.num_collectors=1"))
    refused(outcome, "collector 0 was ended", "hangs/Here-v0", "from step ", "--run.env_timeout")
    assert resumable(tmp_path)


@pytest.mark.long
def test_a_simulator_that_lets_no_other_code_run_is_ended_in_a_collector(
    command, run, hangs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    hangs(at="step", after=90, holds=True)
    process = command.start(*run("--data.num_collectors=1"))
    assert "collector 0 was ended" in ended(process)
    assert resumable(tmp_path)
    assert gone(process.pid)
    monkeypatch.delenv("HANGS")
    ended(command.start(*run("--data.num_collectors=1", "--ckpt_path=last")), 0)


@pytest.mark.long
@pytest.mark.parametrize("collectors", [0, 1])
def test_a_hanging_environment_of_one_rank_ends_all(
    command, run, hangs, tmp_path: Path, collectors: int
):
    hangs(at="step", after=40, rank="1")
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")
    process = command.start(*run(f"--data.num_collectors={collectors}", *two))
    message = ended(process).rpartition("error: ")[2]
    assert "process 1 of this run failed: " in message
    assert f"environment {ENV} has not returned from step" in message
    assert resumable(tmp_path)
    assert gone(process.pid)


@pytest.mark.long
@pytest.mark.parametrize("at", ["step", "reset"])
def test_a_call_that_hangs_in_the_learner_is_interrupted(
    command, run, hangs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: str
):
    hangs(at=at, after=90)
    process = command.start(*run())
    err = ended(process)
    assert "interrupting it" in err
    message = err[err.index("error: ") :]
    assert f"environment {ENV} has not returned from {at}" in message
    assert "for 2 s" in message
    assert resumable(tmp_path)
    assert gone(process.pid)
    monkeypatch.delenv("HANGS")
    ended(command.start(*run("--ckpt_path=last")), 0)


@pytest.mark.long
def test_a_reset_that_hangs_in_a_collector_ends_it(command, run, hangs, tmp_path: Path):
    hangs(at="reset", after=60)
    process = command.start(*run("--data.num_collectors=2"))
    assert "was ended: " in ended(process)
    assert resumable(tmp_path)
    assert gone(process.pid)


@pytest.mark.long
@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize("at", ["made", "step", "reset"])
def test_an_evaluation_that_hangs_ends(command, run, hangs, tmp_path: Path, worker: bool, at: str):
    if at == "made" and not worker:
        pytest.skip("the environment is made in this process before there is an evaluation")
    hangs(at=at, evaluating=True, worker=worker, after=0 if at == "made" else 45)
    process = command.start(*run("--evaluation.every=10"))
    message = ended(process).rpartition("error: ")[2]
    assert ("evaluation: the process of environments 1 was ended" in message) == worker
    assert "has not returned from " + ("its constructor" if at == "made" else at) in message
    assert at == "made" or resumable(tmp_path, "offline")
    assert gone(process.pid)


@pytest.mark.long
def test_an_environment_that_cannot_be_made_in_time_is_refused(command, run, hangs):
    hangs(at="made")
    err = ended(command.start(*run()))
    assert f"environment {ENV} has not returned from its constructor" in err


@pytest.mark.long
@pytest.mark.parametrize("collectors", [0, 1])
@pytest.mark.parametrize("evaluating", [False, True])
def test_a_close_that_hangs_at_the_end_does_not_spoil_the_run(
    command, run, hangs, tmp_path: Path, collectors: int, evaluating: bool
):
    hangs(at="close", after=40, evaluating=evaluating)
    process = command.start(*run(f"--data.num_collectors={collectors}"))
    err = ended(process, 0)
    assert evaluating or collectors or "is left open until this process ends" in err
    assert resumable(tmp_path)
    assert gone(process.pid)


@pytest.mark.long
@pytest.mark.parametrize("worker", [False, True])
def test_the_command_test_ends_too(command, run, hangs, tmp_path: Path, worker: bool):
    ended(command.start(*run()), 0)
    hangs(at="step", evaluating=True, worker=worker, after=5)
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    process = command.start(
        "test",
        f"--ckpt_path={last}",
        f"--data.env={ENV}",
        "--run.env_timeout=2",
        "--evaluation.episodes=4",
    )
    err = ended(process)
    assert "has not returned from step 5 of an episode for 2 s" in err
    assert ("was ended" in err) == worker
    assert gone(process.pid)


@pytest.mark.long
@pytest.mark.parametrize("collectors", [0, 1])
def test_no_process_is_left_when_a_run_that_hangs_is_killed(
    command, run, hangs, wait_for, tmp_path: Path, collectors: int
):
    hangs(at="step", after=90)
    process = command.start(*run("--run.env_timeout=0", f"--data.num_collectors={collectors}"))
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    wait_for(last.exists, process)
    time.sleep(3)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(process.pid)
