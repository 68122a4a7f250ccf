"""Where a user's own modules are found, and the command that names them again."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import Command, write_random_log
from own_methods import Clocked
from pex_lightning.algorithms import PEX
from pex_lightning.callbacks.run_summary import code_flags
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.studies import runner


def test_the_current_folder_is_looked_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["/first"])
    monkeypatch.chdir(tmp_path)
    find_own_modules()
    find_own_modules()
    assert sys.path == ["/first", str(tmp_path)]


def test_the_flags_name_what_is_the_users_own():
    assert code_flags(PEX(), "Hopper-v5") == []
    own = code_flags(Clocked(), "myrobot:MyArm-v0")
    assert own == ["--model", "own_methods.Clocked", "--data.env", "myrobot:MyArm-v0"]
    members = PEX(members=["policy.pt", "old.ckpt"])
    named = code_flags(members, "Hopper-v5")
    assert named == ["--members", '[{"path": "policy.pt", "name": "policy"}]']


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an environment and a method in a module."""
    (tmp_path / "own_robot.py").write_text(
        "import gymnasium\n"
        "from pex_lightning.algorithms import PEX as MyPEX\n"
        "gymnasium.register('MyArm-v0', max_episode_steps=20,\n"
        "    entry_point='gymnasium.envs.classic_control.pendulum:PendulumEnv')\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_data_info_finds_an_environment_of_the_current_folder(
    folder: Path, command: Command
) -> None:
    write_random_log(folder / "logs.hdf5")
    outcome = command("data", "info", "logs.hdf5", "--env", "own_robot:MyArm-v0")
    assert outcome.code == 0, outcome.err


def test_a_study_finds_a_method_of_the_current_folder(
    folder: Path, command: Command, refused: Callable[..., None]
) -> None:
    (folder / "study.yaml").write_text(
        "study:\n"
        "  name: own\n"
        "  seeds: [0]\n"
        "  tasks: {maze: {config: [conf/pointmaze.yaml]}}\n"
        "  variants:\n"
        "    mine: {set: {model: own_robot.MyPEX}}\n"
        "    wrong: {set: {model.gamma: 7}}\n"
    )
    outcome = command("study", "--config", "study.yaml")
    refused(outcome, "nothing was started", "variant wrong")
    assert "variant mine" not in outcome.err


def test_runs_of_a_study_look_in_the_folder_of_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}
    monkeypatch.setattr(runner, "start_module", lambda *args, **more: started.update(more))
    runner.start_process(["fit"], folder / "log.txt", {})
    assert started["environment"]["PYTHONPATH"].split(":")[-1] == str(folder)
    runner.start_process(["fit"], folder / "log.txt", {}, cwd="/elsewhere")
    assert started["environment"]["PYTHONPATH"].split(":")[-1] == "/elsewhere"
