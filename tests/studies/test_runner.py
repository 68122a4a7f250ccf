"""How runs are started on this machine, and what their logs say of a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pex_lightning.parents import PARENT
from pex_lightning.studies.local import share_of_machine
from pex_lightning.studies.runner import why


@pytest.mark.parametrize(
    ("printed", "code", "reason"),
    [
        ("", 0, None),
        ("error: x", 143, None),
        ("error: x", 129, None),
        ("", -15, None),
        ("", -2, None),
        ("error: old\nerror: --x is 1.\nbye", 2, "--x is 1."),
        ("Traceback\nValueError: odd\n", 1, "ValueError: odd"),
        ("", -9, "its process was ended by SIGKILL, perhaps for memory"),
        ("", -11, "its process was ended by SIGSEGV"),
        ("nothing of use", 3, "its process ended with exit code 3"),
        ("error: \x1b[31mred", 2, "\ufffd[31mred"),
    ],
)
def test_the_reason_of_a_failure_comes_from_the_log(
    tmp_path: Path, printed: str, code: int, reason: str | None
):
    log = tmp_path / "log.txt"
    log.write_text(printed)
    assert why(log, 0, code) == reason


def test_only_the_last_process_counts(tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("error: of the first\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("killed\n")
    assert why(log, start, 5) == "its process ended with exit code 5"


def test_cores_are_divided_among_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def share(runs: int, processes: int = 1, **given: int | None) -> tuple[int, int]:
        asked = {"jobs": None, "threads": None, "gpus": 0, **given}
        found = share_of_machine(runs, processes, **asked)  # type: ignore[arg-type]
        return found.jobs, found.threads

    assert share(100) == (8, 1)
    assert share(2) == (2, 4)
    assert share(100, processes=3) == (2, 1)
    assert share(100, jobs=3) == (3, 2)
    assert share(100, threads=4) == (8, 4)
    assert share(100, gpus=2) == (2, 4)
    assert share(1, processes=20) == (1, 1)


def test_a_run_is_told_when_its_parent_is_gone():
    child = (
        "import os, signal, sys, time;"
        "from pex_lightning.parents import follow_parent, PARENT;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "follow_parent(); assert PARENT not in os.environ;"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys;"
            f"os.environ[{PARENT!r}] = str(os.getpid());"
            f"subprocess.run([sys.executable, '-c', {child!r}])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    began = time.monotonic()
    parent.kill()
    # The pipe is open as long as the run is there.
    assert parent.stdout.read() == ""
    assert time.monotonic() - began < 30
    parent.wait()
