"""A kept offline stage that is damaged or was altered is never taken."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pex_lightning.handover.kept_stages import KeptStage


def _truncate(folder: Path) -> None:
    file = folder / "checkpoints" / "last.ckpt"
    file.write_bytes(file.read_bytes()[:1000])


def _alter(folder: Path) -> None:
    file = folder / "checkpoints" / "last.ckpt"
    raw = torch.load(file, weights_only=True)
    raw["state_dict"]["policy.log_std"] += 1.0
    torch.save(raw, file)


def _other_note(folder: Path) -> None:
    note = json.loads((folder / "stage.json").read_text())
    note["depends_on"]["seed"] = 7
    (folder / "stage.json").write_text(json.dumps(note))


def _note(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "stage.json").write_text(text) and None


@pytest.fixture
def kept(finished: Path, tmp_path: Path) -> tuple[KeptStage, Path]:
    """A kept stage, and its folder."""
    note = json.loads((finished / "offline" / "stage.json").read_text())
    stage = KeptStage(tmp_path, note["depends_on"])
    folder = tmp_path / "offline-stages" / stage.fingerprint
    shutil.copytree(finished.parent / "offline-stages" / stage.fingerprint, folder)
    return stage, folder


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _alter,
        _other_note,
        _note("{"),
        _note("[" * 100_000),
        _note("[]"),
        lambda folder: (folder / "stage.json").unlink(),
        lambda folder: (folder / "metrics.csv").unlink(),
    ],
    ids=["short", "altered", "other note", "no JSON", "deep", "list", "no note", "no metrics"],
)
def test_a_damaged_stage_is_not_taken(kept, finished: Path, tmp_path: Path, caplog, damage):
    stage, folder = kept
    damage(folder)
    with caplog.at_level(logging.WARNING, "pex_lightning.handover.kept_stages"):
        logging.getLogger("pex_lightning").propagate = True
        assert stage.take(tmp_path / "run", 40) is None
    assert "is damaged or was altered, so it is trained again" in caplog.text
    assert not folder.exists()
    assert not (tmp_path / "run").exists()
    # Training puts a whole one in its place.
    trained = tmp_path / "trained"
    shutil.copytree(finished / "offline", trained)
    stage.keep(trained)
    taken = stage.take(tmp_path / "run", 40)
    assert taken is not None
    assert taken.header.gradient_steps == 40


def test_one_of_another_length_is_not_taken(kept, tmp_path: Path):
    assert kept[0].take(tmp_path / "run", 41) is None


def test_a_resumed_stage_goes_on_only_as_what_it_began_as(kept, tmp_path: Path):
    stage, run = kept[0], tmp_path / "run"
    stage.begin(run)
    assert stage.goes_on(run)
    assert not KeptStage(tmp_path, {"seed": 8}).goes_on(run)
    # Its first half was of another description.
    assert not stage.goes_on(run)
