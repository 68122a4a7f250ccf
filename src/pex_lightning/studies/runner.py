"""Who runs the runs of a study: what every backend offers, and how a run's process is watched."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pex_lightning.errors import printable, shortened
from pex_lightning.jobs import start_module
from pex_lightning.parents import PARENT
from pex_lightning.processes import STOP_SIGNALS
from pex_lightning.studies.plan import PlannedRun

STOPPED = tuple(code for number in STOP_SIGNALS for code in (128 + number, -number))
"""Exit codes of a run that was asked to stop: having saved, or not yet able to catch a signal."""

_LAST_WORDS = 20_000


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        exit_code: Exit code of its process; negative for a signal; None if nobody knows.
        reason: Why it failed, in one line; None if it did not.
        host: The machine that it ran on.
    """

    exit_code: int | None
    reason: str | None
    host: str


class RunningRun(Protocol):
    """A run that was started."""

    def poll(self) -> RunEnd | None:
        """How it ended; None as long as it has not."""

    def stop(self) -> None:
        """Ask it to save and to end."""

    def kill(self) -> None:
        """End it at once."""


class Runner(Protocol):
    """Starts runs.

    Attributes:
        capacity: Runs that may be started at a time; None if it keeps a queue of its own.
    """

    capacity: int | None

    def start(self, run: PlannedRun) -> RunningRun:
        """Start a run, or put it into the queue."""

    def close(self) -> None:
        """Give back what it holds."""


def start_process(
    command: list[str], log: Path, environment: dict[str, str], cwd: str | None = None
) -> subprocess.Popen[bytes]:
    """Start `pex-lightning` with its output added to a log; it stops when this process is gone.

    Args:
        command: Arguments of `pex-lightning`.
        log: The file.
        environment: Variables besides this process's own.
        cwd: The folder to start it in; by default this process's.

    Raises:
        OSError: The log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # The user's own modules are found in the folder of the command, as by `fit` itself.
    own = [] if sys.flags.safe_path else [cwd or os.getcwd()]
    path = os.pathsep.join([*filter(None, sys.path), *own])
    with log.open("ab") as file:
        return start_module(
            "pex_lightning",
            *command,
            stdin=subprocess.DEVNULL,
            stdout=file.fileno(),
            stderr=file.fileno(),
            environment={**environment, PARENT: str(os.getpid()), "PYTHONPATH": path},
            cwd=cwd,
        )


def why(log: Path, start: int, code: int) -> str | None:
    """Why a run failed, in one line, from what it printed; None if it did not fail.

    Args:
        log: What it printed.
        start: Where the last process began to print, in bytes.
        code: Its exit code; negative for a signal.
    """
    if code == 0 or code in STOPPED:
        return None
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", perhaps for memory" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"
    lines = _last_lines(log, start)
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return shortened(errors[-1].removeprefix("error: "), 500)
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b", line)]
    return shortened(raised[-1] if raised else f"its process ended with exit code {code}", 500)


def _last_lines(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - _LAST_WORDS))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [printable(line) for line in text.replace("\r", "\n").splitlines() if line.strip()]


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a run's process to save and to end."""
    if process.poll() is None:
        process.terminate()


def end_at_once(process: subprocess.Popen[bytes]) -> None:
    """End a run's process and what it started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
