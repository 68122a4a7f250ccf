"""Calls of environments that may never return: which one a process is in, and what ends it.

A process notes every call of an environment in a `Call`. One thread looks at this process's own
and at those of its workers, which share them with it. Worker processes import this module, so it
must not import torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ClassVar

from pex_lightning.errors import UserError

DEFAULT_SECONDS = 300.0
MAKE, RESET, STEP, CLOSE = 1, 2, 3, 4
_LONGEST_NAME = 120
_LOOK_SECONDS = 1.0
_HINT = (
    "Repair the environment, or allow its calls more time with --run.env_timeout (0: no limit). "
    "A run goes on with --ckpt_path last."
)


class CallHangsError(UserError):
    """A call of an environment took longer than it may."""


class Call(ctypes.Structure):
    """The call that a process is in, in memory that another process can share.

    Attributes:
        count: Calls so far.
        what: `MAKE`, `RESET`, `STEP` or `CLOSE`; 0 between calls.
        step: The step's number in its episode.
        env: The environment's name.
    """

    _fields_: ClassVar = [
        ("count", ctypes.c_int64),
        ("what", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("env", ctypes.c_char * _LONGEST_NAME),
    ]

    def describe(self) -> str:
        """Which environment is at what."""
        what = ("", "its constructor", "reset", f"step {self.step} of an episode", "close")
        return (
            f"environment {self.env.decode(errors='replace')} has not returned from "
            + (what[self.what])
        )


_present = Call()


def begin(env: bytes, what: int, step: int = 0) -> None:
    """Note that a call of an environment begins; `end` has to follow, whatever happens."""
    _present.env = env
    _present.step = step
    _present.count += 1
    _present.what = what


def end() -> None:
    """Note that the call has ended."""
    _present.what = 0


def name_of(env_id: str) -> bytes:
    """The name of an environment as `begin` takes it."""
    return env_id.encode()[: _LONGEST_NAME - 1]


def note_in(call: Call) -> None:
    """Note calls in memory that the parent shares, from now on."""
    global _present  # noqa: PLW0603  (one process is in one call)
    _present = call


class _Watched:
    """How long a process has been in the same call.

    Looks are counted rather than seconds, which also pass while both processes are suspended.
    """

    def __init__(self, call: Call, overdue: Callable[[str], None]) -> None:
        self._call, self._overdue = call, overdue
        self._count, self._seconds = -1, 0.0

    def look(self, seconds: float, limit: float) -> None:
        call = self._call
        if call.what == 0 or call.count != self._count:
            self._count, self._seconds = call.count, 0.0
            return
        self._seconds += seconds
        if self._seconds >= limit:
            self._seconds = 0.0
            self._overdue(f"{call.describe()} for {limit:g} s")


class _Watch:
    """The thread that looks at calls; it runs while there are any to look at."""

    def __init__(self) -> None:
        self.limit = DEFAULT_SECONDS
        self._watched: dict[int, _Watched] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, call: Call, overdue: Callable[[str], None]) -> None:
        with self._lock:
            self._watched[ctypes.addressof(call)] = _Watched(call, overdue)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
                self._thread.start()

    def remove(self, call: Call) -> None:
        with self._lock:
            self._watched.pop(ctypes.addressof(call), None)

    def _run(self) -> None:
        while True:
            seconds = min(_LOOK_SECONDS, self.limit / 4 or _LOOK_SECONDS)
            time.sleep(seconds)
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
                watched = list(self._watched.values())
            if self.limit > 0:
                for one in watched:
                    one.look(seconds, self.limit)


_watch = _Watch()


def watch(call: Call, overdue: Callable[[str], None]) -> None:
    """Have `overdue` told, in another thread, which call takes longer than the limit.

    Args:
        call: Where a worker notes its calls.
        overdue: Told again each time as much time has passed.
    """
    _watch.add(call, overdue)


def unwatch(call: Call) -> None:
    """Undo `watch`."""
    _watch.remove(call)


def hanging(who: str, call: str) -> CallHangsError:
    """The error that says who was ended for which call."""
    return CallHangsError(f"{who}{call}. {_HINT}")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Let a call of an environment take so long, here and in all workers; 0: for ever.

    A worker is ended. In this process the call is interrupted with a `CallHangsError`, where it
    gives Python a chance to: sleeping and waiting for a socket do, a loop in C does not. That
    needs the main thread, and a system with signals.
    """
    before, _watch.limit = _watch.limit, seconds
    try:
        with _own_calls_interrupted():
            yield
    finally:
        _watch.limit = before


@contextlib.contextmanager
def _own_calls_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGURG"):
        yield
        return
    # While an environment is being made, its words to `sys.stderr` are not shown.
    own, thread, stream = _present, threading.get_ident(), sys.stderr
    overdue: tuple[int, str] | None = None

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(f"\n{text}\n")
            stream.flush()

    def told(call: str) -> None:
        nonlocal overdue
        if overdue is not None and overdue[0] == own.count:
            say(
                f"{call} more, and cannot be interrupted. End this process with kill -9 "
                f"{os.getpid()}, and go on with --ckpt_path last."
            )
            return
        say(f"{call}; interrupting it")
        overdue = (own.count, call)
        signal.pthread_kill(thread, signal.SIGURG)

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        if overdue is not None and overdue[0] == own.count and own.what:
            raise hanging("", overdue[1])

    # The one signal that is ignored wherever nobody handles it.
    before = signal.signal(signal.SIGURG, interrupt)
    watch(own, told)
    try:
        yield
    finally:
        unwatch(own)
        signal.signal(signal.SIGURG, before)
