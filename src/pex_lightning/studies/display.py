"""What the terminal shows while a study runs: a table that lives, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.progress import Durations, duration_text, progress

_LINE_SECONDS = 60.0


class StudyDisplay:
    """Shows which runs go on, how far and how fast they are, and what has ended.

    Args:
        console: Where to show it; a table that lives on a terminal, plain lines elsewhere.
        title: Name of the study.
        total: Runs that are to be done.
        jobs: Runs at a time.
        durations: What is known of how long runs take.
        most_rows: Rows of the table; of more runs only their number is shown.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        total: int,
        jobs: int,
        durations: Durations,
        most_rows: int = 20,
    ) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._jobs = jobs
        self._durations = durations
        self._most_rows = most_rows
        self._began = time.monotonic()
        self._line_at = self._began
        self._finished = self._failed = 0
        # Errors and log lines of this process appear above the table.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> StudyDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def started(self, run: PlannedRun) -> None:
        """Say that a run was started; on a terminal the table does."""
        if not self._console.is_terminal:
            again = " (goes on)" if run.record.attempts > 1 else ""
            self._print(f"started   {run.record.name}{again}")

    def ended(self, run: PlannedRun) -> None:
        """Say how a run has ended."""
        record = run.record
        line = f"{record.state:9} {record.name}  {duration_text(record.seconds)}"
        if record.state == "finished":
            self._finished += 1
            self._durations.add(run)
            status = progress(run).status
            if status is not None and status.score is not None:
                line += f"  score {status.score:.1f}"
        elif record.state == "failed":
            self._failed += 1
            line += f"  {record.reason} ({run.log})"
        self._print(line, "red" if record.state == "failed" else "")

    def show(self, waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> None:
        """Show how far the runs are."""
        if self._console.is_terminal:
            table = self._table(running)
            self._live.update(Group(table, Text(self._line(waiting, running))), refresh=True)
        elif time.monotonic() - self._line_at >= _LINE_SECONDS:
            self._line_at = time.monotonic()
            self._print(self._line(waiting, running))

    def _line(self, waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> str:
        left = self._durations.left(waiting, running, self._jobs)
        return (
            f"{self._title}: {self._finished} of {self._total} finished, {self._failed} failed, "
            f"{len(running)} running, {len(waiting)} waiting; "
            f"{duration_text(time.monotonic() - self._began)} so far, {duration_text(left)} left"
        )

    def _table(self, running: Sequence[PlannedRun]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", overflow="fold")
        table.add_column("stage")
        table.add_column("progress", width=20)
        for name in ("updates", "updates/s", "score", "left"):
            table.add_column(name, justify="right")
        for run in running[: self._most_rows]:
            at = progress(run)
            status = at.status
            score = None if status is None else status.score
            table.add_row(
                Text(run.record.name),
                at.stage,
                ProgressBar(total=1.0, completed=at.share, width=20),
                "" if status is None else f"{status.gradient_steps:,}",
                "" if status is None else f"{status.updates_per_second:,.0f}",
                "" if score is None else f"{score:.1f}",
                duration_text(self._durations.left_of(run)),
            )
        if len(running) > self._most_rows:
            table.add_row(f"and {len(running) - self._most_rows} more", *[""] * 6)
        return table

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)
