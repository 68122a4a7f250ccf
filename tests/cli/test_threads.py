"""Which number of threads a run takes, and what its folder says of it."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pex_lightning.cli import threads
from pex_lightning.cli.settings import RunSettings
from pex_lightning.cli.thread_choice import ThreadStart
from pex_lightning.cli.threads import Threads
from pex_lightning.errors import UserError

OF_TORCH, MEASURED = ThreadStart("torch"), ThreadStart("measurement")
OF_THE_USER = ThreadStart("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("start", "given", "resumes", "processes", "expected"),
    [
        (MEASURED, None, False, 1, (6, "measurement")),
        (OF_TORCH, None, False, 1, (6, "torch")),
        (MEASURED, 3, True, 2, (3, "--run.threads")),
        (OF_THE_USER, 3, False, 1, (3, "--run.threads")),
        (OF_THE_USER, None, True, 2, (6, "OMP_NUM_THREADS")),
        (MEASURED, None, True, 2, (5, "the earlier attempt")),
        (OF_TORCH, None, True, 1, (5, "the earlier attempt")),
        # Processes share the cores.
        (MEASURED, None, False, 2, (4, "measurement")),
        (OF_TORCH, None, False, 20, (1, "torch")),
    ],
)
def test_which_number_is_taken(
    start: ThreadStart,
    given: int | None,
    resumes: bool,
    processes: int,
    expected: tuple[int, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    settings = RunSettings(name="x", root=str(tmp_path), threads=given)
    settings.directory.mkdir()
    record = settings.directory / "provenance.json"
    record.write_text(json.dumps({"attempts": [{"threads": 9}, {"threads": 5}]}))
    found = Threads.of(settings, "last" if resumes else None, start, processes)
    assert (found.number, found.chosen_by) == expected
    assert found.earlier == (5 if resumes else None)
    # As many as this machine has not.
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    if found.chosen_by == "the earlier attempt":
        assert Threads.of(settings, "last", start, 1).number == 6


@pytest.mark.parametrize("number", [0, -1, 2_000])
def test_a_number_that_is_none_is_refused(number: int) -> None:
    with pytest.raises(UserError, match=r"--run.threads"):
        RunSettings(threads=number)


@pytest.mark.slow
def test_a_run_notes_its_threads_and_says_when_a_resume_takes_others(
    command, tiny, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = json.loads((finished / "provenance.json").read_text())["attempts"]
    assert first["threads"] == torch.get_num_threads() == 1
    assert "torch was loaded" in first["threads_not_measured"]
    for place in ("", "offline", "online"):
        config = yaml.safe_load((finished / place / "config.yaml").read_text())
        assert config["run"]["threads"] == 1
    shutil.copytree(finished, tmp_path / "tiny")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    more = ("--ckpt_path=last", "--trainer.max_steps=42", "--run.threads=2")
    outcome = command(*tiny(tmp_path, *more))
    assert outcome.code == 0, outcome.err
    assert "The earlier attempt took 1 thread(s), this one takes 2 (--run.threads)" in outcome.err
    last = json.loads((tmp_path / "tiny" / "provenance.json").read_text())["attempts"][-1]
    assert (last["threads"], last["threads_chosen_by"]) == (2, "--run.threads")
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (1, "7")
