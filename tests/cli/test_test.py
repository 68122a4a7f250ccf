"""`pex-lightning test` needs nothing but the checkpoint."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from pex_lightning.cli import main


@pytest.mark.parametrize(("stage", "algorithm"), [("offline", "IQL"), ("online", "PEX")])
def test_prints_one_json_object_on_its_last_line(command, finished: Path, stage, algorithm):
    path = finished / stage / "checkpoints" / "last.ckpt"
    outcome = command("test", "--ckpt_path", str(path), "--evaluation.episodes=3")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out.splitlines()[-1])
    assert result["episodes"] == 3
    assert result["env"] == "pex_lightning/PointMaze-Medium-v0"
    assert result["dataset"] == "made:pointmaze-medium"
    assert result["checkpoint"] == str(path)
    assert result["algorithm"] == algorithm
    assert result["score"] == pytest.approx(100 * result["return_mean"])
    assert set(result) >= {"return_std", "success_rate"}
    assert "episodes" not in outcome.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_shows_its_progress_on_a_terminal(
    command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def film(*args, progress, **options):
        for _ in range(7):
            progress()

    monkeypatch.setattr("pex_lightning.cli.test.film", film)
    out, err = io.StringIO(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        args = ["--ckpt_path", str(finished), "--evaluation.episodes=3", "--video=x.gif"]
        assert main(["test", *args]) == 0
    assert "3/3" in err.getvalue()
    assert "7 frames" in err.getvalue()
    assert json.loads(out.getvalue().splitlines()[-1])["episodes"] == 3


def test_is_repeatable_and_follows_the_seed(command, finished: Path):
    path = str(finished / "online" / "checkpoints" / "last.ckpt")
    args = ("test", "--ckpt_path", path, "--evaluation.episodes=2", "--evaluation.seed=7")
    assert command(*args).out == command(*args).out


def test_runs_a_hundred_episodes_by_default(command):
    outcome = command("test", "--help")
    assert "--evaluation.episodes" in outcome.out
    assert "default: 100" in outcome.out


def test_needs_a_checkpoint(command, refused, tmp_path: Path):
    refused(command("test"), "ckpt_path")
    refused(command("test", "--ckpt_path", str(tmp_path / "no.ckpt")), "no.ckpt", "exist")
