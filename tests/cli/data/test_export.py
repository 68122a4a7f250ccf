"""`pex-lightning data export` on a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.minari.reader import read_minari
from pex_lightning.handover import read_checkpoint


def last(finished: Path, stage: str = "online") -> str:
    return str(finished / stage / "checkpoints" / "last.ckpt")


def test_writes_a_file_that_a_run_can_learn_from(command, finished: Path, tmp_path: Path):
    out = tmp_path / "shared.hdf5"
    outcome = command("data", "export", "--ckpt_path", last(finished), "--out", str(out))
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary["path"] == str(out)
    assert summary["rows"] == 90
    assert f"--data.path {out}" in outcome.err
    spec = read_checkpoint(last(finished)).header.data.env
    assert read_d4rl(out, spec=spec).info.episodes == summary["episodes"]


def test_writes_a_minari_dataset(command, finished: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("minari", reason="the package minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    args = ("data", "export", "--ckpt_path", last(finished), "--minari", "my/points/pex-v0")
    outcome = command(*args, "--author", "me")
    assert outcome.code == 0, outcome.err
    assert len(read_minari("my/points/pex-v0").transitions) == 90
    assert "minari:my/points/pex-v0" in outcome.err
    assert command(*args).code == 2
    assert command(*args, "--overwrite").code == 0
    # As the flag that reads it names it.
    assert command(*args[:-2], "--out", "minari:my/points/pex-v1").code == 0
    assert len(read_minari("my/points/pex-v1").transitions) == 90


def test_wrong_arguments_say_what_is_wrong(command, refused, finished: Path, tmp_path: Path):
    def export(*args: str):
        return command("data", "export", "--ckpt_path", last(finished), *args)

    out = tmp_path / "x.hdf5"
    refused(export(), "neither", "--out", "--minari")
    refused(export("--out", str(out), "--minari", "a/b-v0"), "both")
    refused(export("--out", str(out), "--data.env", "Other-v0"), "Other-v0", "PointMaze")
    refused(export("--out", str(tmp_path / "no" / "x.hdf5")), str(tmp_path / "no"))
    refused(command("data", "export", "--out", str(out)), "ckpt_path")
    offline = command("data", "export", "--ckpt_path", last(finished, "offline"), "--out", str(out))
    refused(offline, "offline stage", "online")
    assert not out.exists()
