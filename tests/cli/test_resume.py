"""Interrupted runs go on, and nothing a run wrote is ever half there."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from pex_lightning.handover import read_checkpoint


def _last(root: Path, stage: str) -> Path:
    return root / "tiny" / stage / "checkpoints" / "last.ckpt"


def _assert_same_parameters(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one).state_dict, read_checkpoint(other).state_dict
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def _long(tiny, root: Path, *more: str, config: str = "conf/pointmaze.yaml") -> list[str]:
    """Long enough to be interrupted, with checkpoints every 20 steps."""
    steps = ["--trainer.max_steps=400", "--evaluation.every=400", *more]
    if "iql" not in config:
        steps = ["--offline.max_steps=400", *steps]
    return tiny(root, *steps, config=config)


@pytest.mark.slow
def test_offline_goes_on_bit_for_bit_after_sigkill(command, tiny, wait_for, tmp_path: Path):
    iql = "conf/iql/pointmaze.yaml"
    process = command.start(*_long(tiny, tmp_path / "killed", config=iql))
    wait_for(_last(tmp_path / "killed", "offline").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    stopped_at = read_checkpoint(_last(tmp_path / "killed", "offline")).header.gradient_steps
    assert 0 < stopped_at < 400

    outcome = command(*_long(tiny, tmp_path / "killed", "--ckpt_path=last", config=iql))
    assert outcome.code == 0, outcome.err
    outcome = command(*_long(tiny, tmp_path / "whole", config=iql))
    assert outcome.code == 0, outcome.err
    _assert_same_parameters(
        _last(tmp_path / "killed", "offline"), _last(tmp_path / "whole", "offline")
    )
    optimizers = [
        torch.load(_last(tmp_path / run, "offline"), weights_only=True)["optimizer_states"][0]
        for run in ("killed", "whole")
    ]
    for mine, theirs in zip(*(state["state"].values() for state in optimizers), strict=True):
        assert torch.equal(mine["exp_avg_sq"], theirs["exp_avg_sq"])
        assert torch.equal(mine["step"], theirs["step"])
    # The rows logged before the kill are there once, without a gap.
    for run in ("killed", "whole"):
        with (tmp_path / run / "tiny" / "offline" / "metrics.csv").open(newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file)]
        assert steps == list(range(0, 401, 20))


@pytest.mark.slow
def test_online_goes_on_with_its_whole_replay_buffer_after_sigkill(
    command, tiny, wait_for, tmp_path: Path
):
    process = command.start(*_long(tiny, tmp_path))
    wait_for(_last(tmp_path, "online").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    header = read_checkpoint(_last(tmp_path, "online")).header
    assert 0 < header.gradient_steps < 400

    outcome = command(*_long(tiny, tmp_path, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    assert f"Resumed with {header.env_steps:,} rows in the replay buffer" in outcome.err
    assert "the interrupted episode is dropped" in outcome.err
    finished = read_checkpoint(_last(tmp_path, "online")).header
    assert (finished.gradient_steps, finished.env_steps) == (400, 450)
    # Nothing that no checkpoint needs is left.
    listed = set()
    for name in ("last.ckpt", "best.ckpt"):
        raw = torch.load(_last(tmp_path, "online").with_name(name), weights_only=True)
        listed |= {segment["file"] for segment in raw["data_state"]["replay"][0]}
    replay = _last(tmp_path, "online").parent / "replay" / "rank-0"
    assert {path.name for path in replay.iterdir()} == listed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(
    command, tiny, wait_for, tmp_path: Path, number: signal.Signals
):
    # No checkpoint is due before the end: what is there was saved by the interrupt.
    args = _long(tiny, tmp_path, "--run.save_every=100000", "--offline.max_steps=20000")
    process = command.start(*args)
    metrics = tmp_path / "tiny" / "offline" / "metrics.csv"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert f"fit --config {tmp_path / 'tiny'} --ckpt_path last" in err
    assert " of 20,000 updates of the offline stage" in err
    assert "  start " in err
    assert "Traceback" not in err
    stopped_at = read_checkpoint(_last(tmp_path, "offline")).header.gradient_steps
    assert 0 < stopped_at < 20000


def test_last_goes_on_where_the_online_stage_has_not_begun(
    command, tiny, finished: Path, tmp_path: Path
):
    """Killed between the stages: the offline stage is complete and is not trained again."""
    assert command(*tiny(tmp_path, config="conf/iql/pointmaze.yaml")).code == 0
    offline = _last(tmp_path, "offline")
    before = offline.read_bytes()
    outcome = command(*tiny(tmp_path, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    assert offline.read_bytes() == before
    _assert_same_parameters(
        _last(tmp_path, "online"), finished / "online" / "checkpoints" / "last.ckpt"
    )


def test_a_longer_run_goes_on_from_a_file_in_another_folder(
    command, tiny, finished: Path, tmp_path: Path
):
    last = finished / "online" / "checkpoints" / "last.ckpt"
    outcome = command(*tiny(tmp_path, f"--ckpt_path={last}", "--trainer.max_steps=60"))
    assert outcome.code == 0, outcome.err
    assert read_checkpoint(_last(tmp_path, "online")).header.env_steps == 110
    # The new folder stands alone: its checkpoint can be resumed too.
    outcome = command(*tiny(tmp_path, "--ckpt_path=last", "--trainer.max_steps=80"))
    assert outcome.code == 0, outcome.err
    assert "Resumed with 110 rows" in outcome.err


def test_the_best_checkpoint_can_be_resumed(command, tiny, finished: Path, tmp_path: Path):
    best = finished / "online" / "checkpoints" / "best.ckpt"
    outcome = command(*tiny(tmp_path, f"--ckpt_path={best}", "--trainer.max_steps=60"))
    assert outcome.code == 0, outcome.err
    assert read_checkpoint(_last(tmp_path, "online")).header.gradient_steps == 60


def test_a_finished_run_has_nothing_left_to_do(command, tiny, finished: Path, tmp_path: Path):
    last = finished / "online" / "checkpoints" / "last.ckpt"
    outcome = command(*tiny(tmp_path, f"--ckpt_path={last}"))
    assert outcome.code == 0, outcome.err
    assert "Nothing left to do" in outcome.err
    assert not (tmp_path / "tiny").exists()
    # In its own folder it says again what it said when it ended.
    outcome = command(*tiny(finished.parent, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    said = outcome.err[outcome.err.index("Nothing left to do") :]
    assert re.search(r"Finished after \d+ s of training and evaluation: ", said), said
    for words in ("  offline ", "= last ", "Warning: training ended before", "Worth testing"):
        assert words in said, said


def test_last_starts_a_run_that_does_not_exist_and_says_so(command, tiny, tmp_path: Path):
    outcome = command(*tiny(tmp_path, "--ckpt_path=last", config="conf/iql/pointmaze.yaml"))
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "tiny"
    assert f"{folder} has no checkpoint yet, the run starts from its beginning" in outcome.err


def test_other_hyper_parameters_are_refused_by_name(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    last = finished / "online" / "checkpoints" / "last.ckpt"
    args = tiny(tmp_path, f"--ckpt_path={last}", "--model.inv_temperature=2")
    refused(command(*args), "model.inv_temperature", "10.0", "2.0")
    assert not (tmp_path / "tiny").exists()


def test_a_checkpoint_of_another_class_is_refused_by_name(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    last = finished / "online" / "checkpoints" / "last.ckpt"
    args = tiny(tmp_path, f"--ckpt_path={last}", config="conf/iql/pointmaze.yaml")
    refused(command(*args), "PEX", "IQL")
    assert not (tmp_path / "tiny").exists()


def test_the_replay_buffer_must_be_beside_the_checkpoint(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    alone = tmp_path / "last.ckpt"
    alone.write_bytes((finished / "online" / "checkpoints" / "last.ckpt").read_bytes())
    args = tiny(tmp_path, f"--ckpt_path={alone}", "--trainer.max_steps=60")
    refused(command(*args), "replay", "rows-")


@pytest.mark.slow
def test_an_interrupt_before_the_first_update_keeps_what_was_collected(
    command, tiny, wait_for, finished: Path, tmp_path: Path
):
    offline = finished / "offline" / "checkpoints" / "last.ckpt"
    args = [*tiny(tmp_path, f"--offline.ckpt_path={offline}"), "--data.start_steps=1000000"]
    process = command.start(*args)
    best = tmp_path / "tiny" / "online" / "checkpoints" / "best.ckpt"
    wait_for(best.exists, process)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    # The command that it names goes on with it.
    assert f"fit --config {tmp_path / 'tiny'} --ckpt_path last" in err
    header = read_checkpoint(_last(tmp_path, "online")).header
    assert header.gradient_steps == 0
    assert header.env_steps > 0
    named = ["fit", "--config", str(tmp_path / "tiny"), "--ckpt_path", "last"]
    outcome = command(*named, f"--data.start_steps={header.env_steps}")
    assert outcome.code == 0, outcome.err
    assert f"Resumed with {header.env_steps:,} rows" in outcome.err
    assert read_checkpoint(_last(tmp_path, "online")).header.env_steps == header.env_steps + 40


@pytest.mark.slow
def test_an_interrupt_breaks_an_evaluation_off(command, tiny, tmp_path: Path):
    args = tiny(tmp_path, "--evaluation.episodes=5000", config="conf/iql/pointmaze.yaml")
    process = command.start(*args)
    metrics = tmp_path / "tiny" / "offline"
    end = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(6.0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not (metrics / "metrics.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "until",
    [
        pytest.param("offline/config.yaml", marks=pytest.mark.long),
        "offline/checkpoints/best.ckpt",
    ],
)
def test_a_run_killed_before_its_first_last_checkpoint_goes_on_with_last(
    command, tiny, refused, wait_for, finished: Path, tmp_path: Path, until: str
):
    process = command.start(*tiny(tmp_path, "--offline.max_steps=100000", "--run.save_every=90000"))
    wait_for((tmp_path / "tiny" / until).exists, process)
    process.kill()
    process.communicate(timeout=60)
    assert not _last(tmp_path, "offline").exists()
    if until.endswith("best.ckpt"):
        refused(command(*tiny(tmp_path)), "--ckpt_path last")
    outcome = command(*tiny(tmp_path, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    # What it ends with is what it would have ended with.
    _assert_same_parameters(
        _last(tmp_path, "online"), finished / "online" / "checkpoints" / "last.ckpt"
    )


def test_a_run_killed_before_anything_was_written_begins_again(command, tiny, tmp_path: Path):
    (tmp_path / "tiny").mkdir()
    outcome = command(*tiny(tmp_path, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    assert "has no checkpoint yet, the run starts from its beginning" in outcome.err
