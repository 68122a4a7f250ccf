"""Works through the runs of a study: starts what can start, and keeps the record of each."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pex_lightning.files.locks import HeldError, owned
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.records import RunState, write_record
from pex_lightning.studies.runner import STOPPED, RunEnd, Runner, RunningRun
from pex_lightning.studies.versions import CodeVersion

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class Display(Protocol):
    """Shows how a study goes."""

    def started(self, run: PlannedRun) -> None:
        """A run was started."""

    def ended(self, run: PlannedRun) -> None:
        """A run has ended; its record says how."""

    def show(self, waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> None:
        """Time has passed."""


@dataclass
class _Active:
    """A run that is going on."""

    run: PlannedRun
    process: RunningRun
    since: float


class Supervisor:
    """Works through runs.

    Runs that begin with the same offline stage wait until the first of them has finished it, and
    take it then. One run that fails does not stop the others.

    Args:
        runs: What is to be done, in this order where nothing speaks against it.
        runner: Who runs them.
        display: Shows how it goes.
        version: Of the code that runs them.
        patience: Seconds to wait for a process of an earlier study that still saves a run.

    Attributes:
        ended: The runs that have ended, with their records.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        runner: Runner,
        display: Display,
        version: CodeVersion,
        patience: float = 60.0,
    ) -> None:
        self._waiting = list(runs)
        self._active: list[_Active] = []
        self._runner = runner
        self._display = display
        self._version = version
        self._patience = patience
        self._asked = 0
        self._began = time.monotonic()
        self._held: set[str] = set()
        self.ended: list[PlannedRun] = []

    def stop(self) -> None:
        """Ask all runs to save and to end, and start no more; a second call ends them at once."""
        self._asked += 1

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked > 0

    def work(self) -> None:
        """Work until all runs have ended, or until those that go on have after `stop`.

        Raises:
            OSError: A record cannot be written; the runs that go on save and end before that.
        """
        try:
            self._loop()
        except BaseException:
            self._end_all()
            raise

    def _loop(self) -> None:
        passed_on = False
        while self._active or (self._waiting and not self.stopped):
            if self.stopped and not passed_on:
                passed_on = True
                for active in self._active:
                    active.process.stop()
            if self._asked > 1:
                for active in self._active:
                    active.process.kill()
            while not self.stopped and (run := self._next()) is not None:
                self._start(run)
            self._collect()
            self._display.show(self._waiting, [active.run for active in self._active])
            time.sleep(POLL_SECONDS)

    def _next(self) -> PlannedRun | None:
        """The first run that can start now."""
        capacity = self._runner.capacity
        if capacity is not None and len(self._active) >= capacity:
            return None
        being_trained = {
            active.run.shared_stage for active in self._active if not active.run.has_shared_stage
        }
        for run in self._waiting:
            shares = run.shared_stage is not None and run.shared_stage in being_trained
            if not shares and self._is_free(run):
                return run
        return None

    def _start(self, run: PlannedRun) -> None:
        self._waiting.remove(run)
        record = replace(
            run.record,
            state="running",
            reason=None,
            attempts=run.record.attempts + 1,
            started=run.record.started or _now(),
            version=self._version.version,
            git_revision=self._version.git_revision,
        )
        run = replace(run, record=record)
        write_record(run.folder, record)
        self._active.append(_Active(run, self._runner.start(run), time.monotonic()))
        self._display.started(run)

    def _is_free(self, run: PlannedRun) -> bool:
        """Whether no process of a study that was killed still saves this run."""
        if not run.folder.exists():
            return True
        try:
            with owned(run.folder):
                return True
        except HeldError as error:
            if run.record.name not in self._held:
                self._held.add(run.record.name)
                _log.info("%s is still in use (%s); waiting for it", run.folder, error)
            # In the end the run itself says that its folder is taken.
            return time.monotonic() > self._began + self._patience

    def _collect(self) -> None:
        for active in list(self._active):
            end = active.process.poll()
            if end is not None:
                self._active.remove(active)
                self._end(active, end)

    def _end(self, active: _Active, end: RunEnd) -> None:
        state: RunState = "failed"
        if end.exit_code == 0:
            state = "finished"
        elif end.exit_code in STOPPED or self.stopped:
            state = "stopped"
        record = replace(
            active.run.record,
            state=state,
            reason=end.reason,
            exit_code=end.exit_code,
            host=end.host,
            seconds=active.run.record.seconds + time.monotonic() - active.since,
            ended=_now(),
        )
        run = replace(active.run, record=record)
        write_record(run.folder, record)
        self.ended.append(run)
        self._display.ended(run)

    def _end_all(self) -> None:
        """Let the runs that go on save and end, whatever has happened to the study."""
        for active in self._active:
            active.process.stop()
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline and any(a.process.poll() is None for a in self._active):
            time.sleep(POLL_SECONDS)
        for active in self._active:
            active.process.kill()


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
