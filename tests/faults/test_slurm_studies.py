"""A study by `submitit`, with its executor for one machine in the place of Slurm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pex_lightning.callbacks.status import read_status
from pex_lightning.studies.plan import PlannedRun, RunShape
from pex_lightning.studies.records import RunRecord, read_record, write_record
from pex_lightning.studies.slurm import SlurmRunner
from tiny_studies import write_study

submitit = pytest.importorskip(
    "submitit", reason="needs submitit: pip install 'pex-lightning[slurm]'"
)


def study(root: Path, steps: int) -> list[str]:
    here = {"cluster": "local", "timeout_min": 30}
    return ["study", "--config", str(write_study(root, steps, backend="slurm", slurm=here))]


@pytest.mark.long
@pytest.mark.slow
def test_a_preempted_job_saves_and_goes_on(command, wait_for, tmp_path: Path) -> None:
    live = command.start(*study(tmp_path, 2_000))
    run = tmp_path / "demo" / "maze-direct-0"
    last = run / "online" / "checkpoints" / "last.ckpt"
    try:
        wait_for(last.exists, live, 200)
        # As Slurm does before it takes the machine away.
        for task in children_of(live.pid, "submitit.core._submit"):
            os.kill(task, signal.SIGUSR2)
        out, err = live.communicate(timeout=400)
    finally:
        live.kill()
    assert live.returncode == 0, out + err
    assert read_record(run).state == "finished"
    status = read_status(run / "online")
    assert status is not None
    assert status.gradient_steps == 2_000
    assert status.first_step > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_study_that_is_stopped_cancels_its_jobs_which_save(
    command, wait_for, tmp_path: Path
) -> None:
    live = command.start(*study(tmp_path, 10**6))
    run = tmp_path / "demo" / "maze-direct-0"
    last = run / "online" / "checkpoints" / "last.ckpt"
    try:
        wait_for(last.exists, live, 200)
        written = last.stat().st_mtime_ns
        live.terminate()
        out, err = live.communicate(timeout=120)
    finally:
        live.kill()
    assert live.returncode == 143, out + err
    assert read_record(run).state == "stopped"
    assert last.stat().st_mtime_ns > written


def children_of(pid: int, words: str) -> list[int]:
    psutil = pytest.importorskip("psutil")
    found = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in found if words in " ".join(child.cmdline())]


def test_settings_that_submitit_refuses_are_named(refused, command, tmp_path: Path) -> None:
    arguments = study(tmp_path, 10)
    for wrong, words in (('{"cluster": "moon"}', "moon"), ('{"cluster": "local", "x": 1}', "x")):
        outcome = command(*arguments, f"--study.slurm={wrong}")
        refused(outcome, "--study.slurm", words)


def test_a_job_that_cannot_see_the_folder_says_so(tmp_path: Path) -> None:
    from pex_lightning.studies.remote_job import RemoteJob

    shape = RunShape(None, 0, 1, 0, 1, 1, 1)
    run = PlannedRun(RunRecord("jobs", "direct", "maze", 0), tmp_path, shape)
    end = RemoteJob.of(run, 1)()
    assert end.exit_code == 2
    assert end.reason is not None
    assert str(run.folder) in end.reason
    assert "--study.root" in end.reason
    write_record(run.folder, run.record)
    job = RemoteJob.of(run, 1)
    job.started_in = str(tmp_path / "gone")
    assert "gone" in str(job().reason)


def test_slurm_runner_takes_whole_gpus(tmp_path: Path, refused) -> None:
    from pex_lightning.errors import UserError

    with pytest.raises(UserError, match="whole number"):
        SlurmRunner(tmp_path, "x", 1, 1, 0.5, {"cluster": "local"})
