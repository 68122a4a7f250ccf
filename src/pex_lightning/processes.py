"""Worker processes: started without a signal reaching them too early, served, ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

_PARENT_CHECK_SECONDS = 2.0
_STOP_SECONDS = 5.0


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, here and in a process started meanwhile, until that one ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It unblocks SIGINT once it has started, so it has to be running before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerProcess:
    """This process's end of a process that answers what it is sent, until it is sent None.

    Args:
        serve: Run there with the pipe's other end, ``arguments`` and this process's id.
        arguments: What else it is given.

    Attributes:
        pipe: To it and from it.
        process: The process; it is never forked, since threads of torch and of Lightning may hold
            locks.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, *arguments, os.getpid()), daemon=True
        )
        with interrupts_held():
            self.process.start()
        theirs.close()

    def send_or_leave(self, message: object) -> None:
        """Send; if the process is gone, reading finds its last words, or the end of the pipe."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def how_it_ended(self, fewer: str) -> str:
        """A sentence's end for the user; ``fewer`` is what to take if memory was short."""
        self.process.join(_STOP_SECONDS)
        code = self.process.exitcode
        killed = code == -signal.SIGKILL
        hint = f"it was killed, perhaps for memory: take fewer {fewer}" if killed else ""
        return f"ended with exit code {code}; {hint or 'what it said is above'}."


def stop_workers(workers: list[Any], owner: int) -> None:
    """End the workers that the process ``owner`` started, and forget them."""
    if os.getpid() != owner:
        # A forked copy of that process: the workers are not its children.
        return
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(_STOP_SECONDS)
    workers.clear()


def kill_workers(workers: Sequence[WorkerProcess]) -> None:
    """Before they are stopped: asked to stop, one that is still starting would take seconds."""
    for worker in workers:
        worker.process.kill()


def leave_signals_to_the_parent() -> None:
    """In a worker: a signal to the whole process group is the parent's to answer."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def next_message(pipe: Connection, parent: int) -> Any:
    """In a worker: what it is sent next, or None for the end, which a dead parent is too."""
    # The pipe's other end may live on in processes that the parent forked.
    while not pipe.poll(_PARENT_CHECK_SECONDS):
        if os.getppid() != parent:
            return None
    return pipe.recv()
