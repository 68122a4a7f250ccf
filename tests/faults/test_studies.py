"""Studies that are killed, whose runs are killed, whose disk is full, and two of one name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pex_lightning.callbacks.status import read_status
from pex_lightning.files.locks import owned
from pex_lightning.studies.records import read_record
from tiny_studies import write_study


def arguments(root: Path, steps: int, **changes: Any) -> list[str]:
    return ["study", "--config", str(write_study(root, steps, **{"seeds": [0, 1], **changes}))]


def process_of(run: Path) -> int:
    number: int = json.loads((run / "online" / "status.json").read_text())["process"]
    return number


def test_two_studies_of_one_name_are_refused(command, refused, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "study.yaml").write_text("theirs")
    with owned(folder):
        outcome = command(*arguments(tmp_path, 10))
    refused(outcome, str(folder), f"process {os.getpid()} on ", "--study.name")
    assert (folder / "study.yaml").read_text() == "theirs"


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_study_goes_on_with_its_runs_where_they_saved(
    command, wait_for, tmp_path: Path
) -> None:
    given = arguments(tmp_path, 4_000)
    live = command.start(*given)
    runs = [tmp_path / "demo" / f"maze-direct-{seed}" for seed in (0, 1)]
    checkpoints = [run / "online" / "checkpoints" / "last.ckpt" for run in runs]
    wait_for(lambda: all(path.exists() for path in checkpoints), live, 200)
    live.kill()
    live.communicate(timeout=60)
    # Runs of a killed study save and end; the next one waits for that.
    outcome = command(*given)
    assert outcome.code == 0, outcome.err + outcome.out
    for run in runs:
        record, status = read_record(run), read_status(run / "online")
        assert status is not None
        assert (record.state, record.attempts) == ("finished", 2)
        assert status.gradient_steps == 4_000
        assert status.first_step > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_run_fails_alone_and_goes_on_when_it_is_retried(
    command, wait_for, tmp_path: Path
) -> None:
    given = arguments(tmp_path, 3_000)
    live = command.start(*given)
    killed, other = (tmp_path / "demo" / f"maze-direct-{seed}" for seed in (0, 1))
    last = killed / "online" / "checkpoints" / "last.ckpt"
    wait_for(last.exists, live, 200)
    os.kill(process_of(killed), signal.SIGKILL)
    out, _ = live.communicate(timeout=300)
    assert live.returncode == 1
    assert "ended by SIGKILL" in out
    assert read_record(killed).state == "failed"
    assert read_record(other).state == "finished"
    outcome = command(*given, "--study.retry", "failed")
    assert outcome.code == 0, outcome.err
    status = read_status(killed / "online")
    assert status is not None
    assert status.first_step > 0


@pytest.mark.long
@pytest.mark.slow
def test_ctrl_c_saves_all_runs(command, wait_for, tmp_path: Path) -> None:
    given = arguments(tmp_path, 10**6)
    live = command.start(*given)
    runs = [tmp_path / "demo" / f"maze-direct-{seed}" for seed in (0, 1)]
    wait_for(lambda: all(read_status(run / "online") for run in runs), live, 200)
    live.send_signal(signal.SIGINT)
    out, err = live.communicate(timeout=120)
    assert live.returncode == 130, err
    assert "The same command goes on" in out
    for run in runs:
        assert read_record(run).state == "stopped"
        assert (run / "online" / "checkpoints" / "last.ckpt").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount a disk ({error})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_is_lost(command, small_disk: Path) -> None:
    given = arguments(small_disk, 300, seeds=[0])
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    # Enough for the record and the first log lines, not for checkpoints.
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 100_000))
    outcome = command(*given)
    assert outcome.code in (1, 2), outcome.err
    said = outcome.err + outcome.out
    assert "No space left" in said
    assert "Traceback" not in said
    filler.unlink()
    again = command(*given, *(["--study.retry", "failed"] if outcome.code == 1 else []))
    assert again.code == 0, again.err + again.out
    assert read_record(small_disk / "demo" / "maze-direct-0").state == "finished"
