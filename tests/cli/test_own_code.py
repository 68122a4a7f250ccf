"""Where a user's own modules are found, and the command that names them again."""

import sys
from pathlib import Path

import pytest

from own_methods import Clocked
from pex_lightning.algorithms import PEX
from pex_lightning.callbacks.run_summary import code_flags
from pex_lightning.cli.own_code import find_own_modules


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
