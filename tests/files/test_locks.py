"""One process at a time, also on file systems without locks; a lock ends with its process."""

import errno
import fcntl
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pex_lightning.files.locks import locked

WITHOUT_LOCKS = """
import errno, fcntl
def flock(*args):
    raise OSError(errno.ENOTSUP, "Operation not supported")
fcntl.flock = flock
"""
HOLD = """
import sys, time
from pathlib import Path
from pex_lightning.files.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(target: Path, seconds: float, before: str = "") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", before + HOLD, str(target), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def says(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(logging.getLogger("pex_lightning"), "propagate", True)
    caplog.set_level(logging.INFO, "pex_lightning.files.locks")
    return lambda: [r.message for r in caplog.records if r.name == "pex_lightning.files.locks"]


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*args: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_who_waits_says_so_once_and_finds_the_lock_free(tmp_path: Path, says: Any) -> None:
    with holder(tmp_path / "a", 0.5) as process, locked(tmp_path / "a"):
        assert process.wait(timeout=5) == 0
    assert says() == [f"{tmp_path}: another process is making or fetching it; waiting"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locks", ["", WITHOUT_LOCKS])
def test_threads_that_wait_take_turns(locks: str, tmp_path: Path, request: Any) -> None:
    if locks:
        request.getfixturevalue("without_locks")
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with locked(tmp_path / "a"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.01)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert most == [1] * 12
    assert list(tmp_path.iterdir()) == []


def test_without_locks_a_lease_keeps_others_out_and_ends_with_its_process(
    tmp_path: Path, without_locks: None, says: Any
) -> None:
    with holder(tmp_path / "a", 60, WITHOUT_LOCKS) as process:
        # Waited for, since one that was not is still there for the system.
        killer = threading.Timer(1.0, lambda: (process.kill(), process.wait()))
        killer.start()
        with locked(tmp_path / "a"):
            assert process.poll() is not None
    warning, waits = says()
    assert "this file system has no locks; the file .a.lease, which" in warning
    assert waits.endswith("waiting")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_an_os_error() -> None:
    with pytest.raises(OSError, match="/proc"), locked(Path("/proc/a")):
        pass
