"""Folders of runs whose files were damaged: what the commands answer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Damage = Callable[[Path], None]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "tiny"))


def go_on(command: Any, tiny: Any, run: Path) -> Any:
    return command(*tiny(run.parent, "--trainer.max_steps=44", "--ckpt_path=last"))


def test_a_run_goes_on_with_a_damaged_log(command: Any, tiny: Any, run: Path) -> None:
    log = run / "online" / "metrics.csv"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = b"\xff\xfe\0" + lines[1]
    log.write_bytes(b"".join(lines))
    outcome = go_on(command, tiny, run)
    assert outcome.code == 0, outcome.err
    assert "metrics.csv is damaged" in outcome.err
    assert (log.parent / "metrics-damaged-1.csv").read_bytes() == b"".join(lines)
    kept = log.read_bytes().splitlines(keepends=True)
    assert kept[: len(lines) - 1] == [lines[0], *lines[2:]]
    assert len(kept) > len(lines) - 1


def segment(change: Callable[[dict[str, Any]], None]) -> Damage:
    def damage(run: Path) -> None:
        file = min(run.glob("online/checkpoints/replay/rank-0/*.pt"))
        columns = torch.load(file, weights_only=True)
        change(columns)
        torch.save(columns, file)

    return damage


def state(**values: Any) -> Damage:
    def damage(run: Path) -> None:
        file = run / "online" / "checkpoints" / "last.ckpt"
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["data_state"].update(values)
        torch.save(checkpoint, file)

    return damage


def nan(columns: dict[str, Any]) -> None:
    columns["action"][0] = torch.nan


def wider(columns: dict[str, Any]) -> None:
    columns["observation"] = columns["observation"].repeat(1, 2)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (segment(nan), ("rows-000000000", "action has NaN or infinity")),
        (segment(wider), ("rows-000000000", "observation is")),
        (segment(lambda columns: columns.pop("action")), ("rows-000000000", "expected")),
        (state(replay=[[{"file": 5}]]), ("last.ckpt", "list of its parts")),
        (state(collected="90"), ("last.ckpt", "'90' rows were collected")),
    ],
    ids=["NaN", "another width", "no actions", "an odd list", "a number as text"],
)
def test_a_damaged_replay_buffer_is_neither_gone_on_with_nor_exported(
    command: Any, tiny: Any, refused: Any, run: Path, damage: Damage, says: tuple[str, ...]
) -> None:
    damage(run)
    refused(go_on(command, tiny, run), *says)
    last = str(run / "online" / "checkpoints" / "last.ckpt")
    out = run / "out.hdf5"
    refused(command("data", "export", "--ckpt_path", last, "--out", str(out)), *says)
    assert not out.exists()


@pytest.mark.parametrize("statistics", [None, {}, {"episodes": "3"}, {"episodes": -1}])
def test_damaged_statistics_are_not_gone_on_with(
    command: Any, tiny: Any, refused: Any, run: Path, statistics: Any
) -> None:
    state(statistics=statistics)(run)
    refused(go_on(command, tiny, run), "last.ckpt", "statistics cannot be read")
