"""SIGKILL at any moment, again and again: `--ckpt_path last` goes on, and nothing is lost."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mutations import SEEDS
from pex_lightning.handover import read_checkpoint

STEPS, START_STEPS = 6000, 50
SETTINGS = (
    f"--trainer.max_steps={STEPS}",
    f"--offline.max_steps={STEPS}",
    "--evaluation.every=500",
    # Two at a time, so that a process evaluates beside the run's own.
    "--evaluation.episodes=2",
    "--run.save_every=20",
)
WAYS = {
    "one process": ((), 10),
    "a collector": (("--data.num_collectors=1",), 8),
    "two processes": (
        ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"),
        7,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS, ids=["fixed seed", "random seed"])
@pytest.mark.parametrize(("more", "kills"), WAYS.values(), ids=WAYS)
def test_a_run_survives_kills(
    more: tuple[str, ...], kills: int, seed: int, command, tiny, tmp_path: Path
) -> None:
    """Half of the kills hit the first process alone, half its whole group."""
    rng = np.random.default_rng(seed)
    args = tiny(tmp_path, *SETTINGS, *more, "--ckpt_path=last")
    for kill in range(kills):
        process = command.start(*args)
        ended = _wait(process, float(rng.uniform(0, 12)))
        if not ended:
            (os.killpg if kill % 2 else os.kill)(process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), err
        _assert_nothing_is_left_running(process.pid)
    process = command.start(*args)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    _assert_complete(tmp_path / "tiny")


def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _assert_nothing_is_left_running(session: int, seconds: float = 30.0) -> None:
    """Of the session that `command.start` opened."""
    end = time.monotonic() + seconds
    while left := _processes_of(session):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _processes_of(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def _assert_complete(run: Path) -> None:
    for stage in ("offline", "online"):
        header = read_checkpoint(run / stage / "checkpoints" / "last.ckpt").header
        assert header.gradient_steps == STEPS
        with (run / stage / "metrics.csv").open(newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file)]
        assert steps == sorted(set(steps))
        assert {0, STEPS} <= set(steps)
    checkpoints = run / "online" / "checkpoints"
    header = read_checkpoint(checkpoints / "last.ckpt").header
    assert header.env_steps == STEPS + START_STEPS
    listed = set()
    for name in ("last.ckpt", "best.ckpt"):
        raw = torch.load(checkpoints / name, weights_only=True)
        for rank, segments in enumerate(raw["data_state"]["replay"]):
            listed |= {f"rank-{rank}/{segment['file']}" for segment in segments}
    replay = checkpoints / "replay"
    assert {str(path.relative_to(replay)) for path in replay.glob("*/*")} == listed
    assert not [path for path in run.rglob("*") if ".part" in path.name]
