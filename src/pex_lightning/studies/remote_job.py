"""A run as a job of Ray or Slurm: what happens on the machine that was given to it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pex_lightning.studies.local import thread_settings
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.records import RECORD
from pex_lightning.studies.runner import RunEnd, ask_to_stop, start_process, why

_POLL_SECONDS = 0.2
_SAVE_SECONDS = 60.0


@dataclass
class RemoteJob:
    """Runs `pex-lightning` on another machine, which has the same folder of runs.

    Attributes:
        command: Arguments of `pex-lightning`.
        folder: The run's folder, absolute.
        environment: Variables for its process.
        started_in: The folder that relative paths in its configuration are meant from.
    """

    command: list[str]
    folder: str
    environment: dict[str, str]
    started_in: str

    @classmethod
    def of(cls, run: PlannedRun, threads: int) -> RemoteJob:
        """The job of a run, with so many threads."""
        folder = run.folder.resolve()
        return cls(run.at(folder), str(folder), thread_settings(threads), os.getcwd())

    def __call__(self) -> RunEnd:
        """Run it to its end."""
        host, folder = socket.gethostname(), Path(self.folder)
        for path in (folder / RECORD, Path(self.started_in)):
            if not path.exists():
                reason = (
                    f"{path} is not there on {host}. Start the study in a folder, and give "
                    "--study.root, on storage that all machines share under the same path."
                )
                return RunEnd(2, reason, host)
        log = folder / "log.txt"
        start = log.stat().st_size if log.exists() else 0
        self._process = start_process(self.command, log, self.environment, cwd=self.started_in)
        try:
            while (code := self._process.poll()) is None:
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            self._stop()
            raise
        return RunEnd(code, why(log, start, code), host)

    def checkpoint(self) -> Any:
        """Let the run save, and queue it again; `submitit` calls it before the time is up."""
        import submitit  # noqa: PLC0415  (it is there, since it calls this)

        self._stop()
        return submitit.helpers.DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint

    def _stop(self) -> None:
        ask_to_stop(self._process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SAVE_SECONDS)

    def __getstate__(self) -> dict[str, Any]:
        # The process stays where it is.
        return {key: value for key, value in vars(self).items() if key != "_process"}
