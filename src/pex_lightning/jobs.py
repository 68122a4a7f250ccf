"""Processes that do one job in a module of their own, and how they end."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from typing import IO

_STOP_SECONDS = 5.0


def start_module(
    module: str,
    *arguments: str,
    stdin: int | IO[bytes],
    stdout: int,
    stderr: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m module` with this process's import path, without the user's script.

    A signal to this process's group does not reach it.

    Args:
        module: The module.
        arguments: Arguments for it.
        stdin: As for `subprocess.Popen`.
        stdout: As for `subprocess.Popen`.
        stderr: As for `subprocess.Popen`.
        environment: Environment variables besides this process's own.
        cwd: The folder to start it in; by default this process's.
    """
    return subprocess.Popen(
        # -P: not from the folder that the user happens to be in.
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **(environment or {}),
        },
        cwd=cwd,
        start_new_session=True,
    )


class JobProcess:
    """A process that does one job in a module of its own, without the user's script.

    A signal to this process's group does not reach it; if this process dies, it ends with its job.

    Args:
        module: Run as `python -m module`; it reads the job from its standard input, pickled, and
            says in the last line of its standard error why it exits with code 1.
        job: What it is to do.
    """

    def __init__(self, module: str, job: object) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (the process writes to it)
        with tempfile.TemporaryFile() as file:
            pickle.dump(job, file)
            file.seek(0)
            self._process = start_module(
                module, stdin=file, stdout=subprocess.DEVNULL, stderr=self._errors
            )
        # Where nobody ends it, since training ended in an error.
        self.end = weakref.finalize(self, _end_job, self._process)
        """End it, whatever it is at; a second call does nothing."""

    def wait(self) -> str | None:
        """Wait for its end; why the job is not done, or None if it is."""
        code = self._process.wait()
        if code == 0:
            return None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if code == 1 and lines:
            return lines[-1]
        hint = ", perhaps for memory" if code == -signal.SIGKILL else ""
        return f"its process ended with exit code {code}{hint}"


def _end_job(process: subprocess.Popen[bytes]) -> None:
    for name in ("SIGTERM", "SIGKILL"):
        if process.poll() is not None:
            return
        if sys.platform == "win32":
            process.kill()
        else:
            # What it started, such as the C++ compiler, is in its group; it may be gone by now.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.Signals[name])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
