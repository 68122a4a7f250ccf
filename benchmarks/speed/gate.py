"""The side of the stopwatch inside a measured process: counts what is done in its turns.

What is measured calls `Gate.passed(count)` after every step. The gate lets it warm up, tells the
stopwatch that it is ready, and from then on returns only while it is this process's turn. It
speaks with the stopwatch in lines: a turn is its seconds, the answer `UNITS SECONDS`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TextIO

READY = "ready"
COLD_CALLS = 3
"""Calls before the warm-up's clock starts: what is compiled is compiled in the first steps."""


class _State(Enum):
    COLD = auto()
    WARM_UP = auto()
    LEAD_IN = auto()
    TIMED = auto()


@dataclass(frozen=True)
class Channel:
    """Lines from and to the stopwatch."""

    turns: TextIO
    answers: TextIO

    @classmethod
    def of_process(cls) -> Channel:
        """Take stdin and stdout for the stopwatch; what others print goes to stderr from now."""
        answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return cls(sys.stdin, answers)

    def say(self, line: str) -> None:
        """Answer."""
        self.answers.write(f"{line}\n")
        self.answers.flush()

    def next_turn(self) -> float | None:
        """Wait for the next turn: its seconds, or None if there is none any more."""
        line = self.turns.readline()
        return float(line) if line else None


class Gate:
    """Times blocks of steps, and holds what is measured back between them.

    Args:
        channel: To the stopwatch.
        warm_up: Seconds before this process says that it is ready, after `COLD_CALLS` calls.
        lead_in: Whether a step goes untimed at the start of every block, which brings back to the
            caches what the other processes drove out of them. Not for steps that take long.
        finish: Waits for what a step may have left running.
        clock: Seconds.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        warm_up: float = 1.0,
        lead_in: bool = True,
        finish: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._channel = channel
        self._warm_up = warm_up
        self._lead_in = lead_in
        self._finish = finish
        self._clock = clock
        self._state = _State.COLD
        self._calls = 0
        self._start = 0.0
        self._first = 0
        self._seconds = 0.0

    def passed(self, count: int) -> bool:
        """Note that `count` units have been done since the start.

        Returns:
            Whether to go on; False once there are no turns any more.
        """
        if self._state is _State.LEAD_IN:
            self._begin(count)
            return True
        if self._state is _State.COLD:
            self._calls += 1
            if self._calls < COLD_CALLS and self._lead_in:
                return True
            self._state, self._start = _State.WARM_UP, self._clock()
        if self._state is _State.WARM_UP:
            if self._clock() - self._start < self._warm_up:
                return True
            self._finish()
            self._channel.say(READY)
            return self._wait(count)
        if self._clock() - self._start < self._seconds:
            return True
        self._finish()
        self._channel.say(f"{count - self._first} {self._clock() - self._start}")
        return self._wait(count)

    def _wait(self, count: int) -> bool:
        """Wait for the next turn."""
        seconds = self._channel.next_turn()
        if seconds is None:
            return False
        self._seconds = seconds
        if self._lead_in:
            self._state = _State.LEAD_IN
        else:
            self._begin(count)
        return True

    def _begin(self, count: int) -> None:
        self._finish()
        self._state, self._first, self._start = _State.TIMED, count, self._clock()
