"""Measures processes against each other: they take turns, in short blocks, for many rounds.

The speed of a shared machine drifts within seconds. So all processes of a comparison are started
and warmed up once, and then each runs for a fraction of a second in every round; a ratio is taken
within a round. Whoever is not at turn is stopped where the system can stop a process, because
threads of OpenMP that spin while they wait would take the others' CPUs.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.speed.gate import READY

START_UP_SECONDS = 300.0
ANSWER_SECONDS = 300.0
CAN_STOP = hasattr(signal, "SIGSTOP") and hasattr(os, "killpg")


class ProcessError(Exception):
    """A measured process ended or does not answer; says why."""


@dataclass(frozen=True)
class Command:
    """How a measured process is started.

    Attributes:
        name: As it is reported.
        arguments: Its command line.
        environment: Its whole environment.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Block:
    """What one process did in one of its turns (`round` counts from 0)."""

    name: str
    round: int
    units: int
    seconds: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


class Runner:
    """A measured process, with those that it starts, in a group of its own.

    Args:
        command: What to start.
        log: File for its stderr.
    """

    def __init__(self, command: Command, log: Path) -> None:
        self.name = command.name
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                command.arguments,
                env=command.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # A group, not a session: if we are killed, the system wakes a stopped group and
                # ends it.
                process_group=0 if CAN_STOP else None,
            )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_until_ready(self) -> None:
        """Wait for the warm-up to end; the process then rests.

        Raises:
            ProcessError: It ended, or takes too long.
        """
        line = self._next_line(START_UP_SECONDS)
        if line != READY:
            raise ProcessError(f"it said {line!r} where {READY!r} was expected")
        self.rest()

    def turn(self, seconds: float, round: int) -> Block:
        """Let it run.

        Raises:
            ProcessError: It ended, or does not answer.
        """
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        units, elapsed = self._next_line(ANSWER_SECONDS + seconds).split()
        self.rest()
        return Block(self.name, round, int(units), float(elapsed))

    def rest(self) -> None:
        """Stop it until its next turn; where that cannot be done it just waits."""
        self._signal("SIGSTOP")

    def end(self) -> None:
        """End it and what it started."""
        if CAN_STOP:
            self._signal("SIGKILL")
        else:
            self._process.kill()
        self._process.wait()

    def _signal(self, name: str) -> None:
        if CAN_STOP:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, getattr(signal, name))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _next_line(self, seconds: float) -> str:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise ProcessError(f"no answer within {seconds:.0f} s") from None
        if line is None:
            raise ProcessError(self._last_words())
        return line

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with exit code {self._process.wait()}"


@dataclass(frozen=True)
class Measured:
    """The blocks of a comparison, and by name why others are missing."""

    blocks: list[Block]
    skipped: dict[str, str]


def alternate(
    commands: Sequence[Command],
    *,
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    at_a_time: int | None = None,
) -> Measured:
    """Start all commands, and let each run for `seconds` in each of the rounds.

    Args:
        commands: With names that differ.
        rounds: Turns of each.
        seconds: Of a turn; a step that has begun is ended.
        tell: Is told how it goes.
        at_a_time: Processes that start at the same time; by default one a CPU.
    """
    blocks: list[Block] = []
    skipped: dict[str, str] = {}

    def skip(name: str, why: str) -> None:
        skipped[name] = why
        tell(f"skipped {name}: {why}")

    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _ending() as started:
        size = at_a_time or os.cpu_count() or 1
        for first in range(0, len(commands), size):
            _start(commands[first : first + size], Path(folder), started, skip)
        tell(f"{len(started)} processes are ready")
        for turn in range(rounds):
            # To and fro, so that a steady drift favours nobody.
            for runner in list(started) if turn % 2 == 0 else list(reversed(started)):
                try:
                    blocks.append(runner.turn(seconds, turn))
                except ProcessError as error:
                    skip(runner.name, str(error))
                    runner.end()
                    started.remove(runner)
    return Measured([block for block in blocks if block.name not in skipped], skipped)


def _start(
    commands: Sequence[Command],
    folder: Path,
    started: list[Runner],
    skip: Callable[[str, str], None],
) -> None:
    """Start some processes at once; adds those that get ready to `started`."""
    runners = []
    for command in commands:
        handle, log = tempfile.mkstemp(dir=folder, suffix=".log")
        os.close(handle)
        runners.append(Runner(command, Path(log)))
        started.append(runners[-1])
    for runner in runners:
        try:
            runner.wait_until_ready()
        except ProcessError as error:
            skip(runner.name, str(error))
            runner.end()
            started.remove(runner)


def clean_up_on_sigterm() -> None:
    """Have SIGTERM end this process by way of an exception, so that nothing stays behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def _ending() -> Iterator[list[Runner]]:
    """A list of runners, all of which are ended in the end."""
    runners: list[Runner] = []
    try:
        yield runners
    finally:
        for runner in runners:
            runner.end()
