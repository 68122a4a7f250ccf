"""Worker processes that answer messages, and how they end.

Workers import this module, so it must not import torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker, sharedctypes
from typing import Any

from pex_lightning import calls
from pex_lightning.errors import UserError, in_one_line

_PARENT_CHECK_SECONDS = 2.0
_STOP_SECONDS = 5.0

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a run to stop; SIGHUP comes when a terminal is closed."""

Handler = Callable[[Any], Any]
"""Answers messages in a worker; its `close` is called at the end, where it has one."""


class WorkerTraceback(Exception):  # noqa: N818  (the cause of an error rather than one itself)
    """Where an exception came from in a worker, as text; the cause of the one raised here."""


@dataclass(frozen=True)
class _Failure:
    """Why a worker ended: the exception, and where it came from."""

    error: Exception
    details: str


def ignored(number: signal.Signals) -> bool:
    """Whether a signal is ignored, as `nohup` does with SIGHUP; it should stay so then."""
    return signal.getsignal(number) is signal.SIG_IGN


def refuse_a_second_run() -> None:
    """End this process if it is one that a script started and that runs the script again.

    A process that is not forked imports the script before it does its work. Without the guard
    `if __name__ == "__main__":` all of the script runs again there.

    Raises:
        SystemExit: It is such a process; its error says what to do.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(
            "error: this script starts processes, each of which has run it again from its "
            "beginning. Put what it does under 'if __name__ == \"__main__\":'."
        )


class Worker:
    """This process's end of a process that answers one message after the other.

    The process is never forked, since threads of torch and of Lightning may hold locks. So a script
    that starts workers needs its `if __name__ == "__main__":`.

    Args:
        make_handler: Called there with `arguments`; what it returns answers the messages.
        arguments: Can be pickled.
        name: What the process is called in an error, with the setting that asks for it.
        fewer: What the user should take fewer of if memory was short.
    """

    def __init__(
        self, make_handler: Callable[..., Handler], *arguments: Any, name: str, fewer: str
    ) -> None:
        self._name, self._fewer = name, fewer
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.call = sharedctypes.RawValue(calls.Call)
        self._hangs: str | None = None
        self.process = context.Process(
            target=_serve,
            args=(theirs, make_handler, arguments, os.getpid(), self.call),
            daemon=True,
        )
        with _interrupts_held():
            self.process.start()
        theirs.close()
        calls.watch(self.call, self._end_call)

    def send(self, message: object) -> None:
        """Ask something; if the process is gone, `receive` finds its last words."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def receive(self) -> Any:
        """Wait for the answer to the oldest message that has none.

        Raises:
            UserError: The process is gone.
            Exception: What the handler raised, from a `WorkerTraceback`.
        """
        try:
            reply = self.pipe.recv()
        except (EOFError, OSError) as error:
            # The end of the pipe, between two replies or in the middle of one.
            if self._hangs is not None:
                raise calls.hanging(f"{self._name} was ended: ", self._hangs) from error
            raise UserError(f"{self._name} {self._how_it_ended()}") from error
        if isinstance(reply, _Failure):
            raise reply.error from WorkerTraceback(f"\n{reply.details}")
        return reply

    def _end_call(self, call: str) -> None:
        self._hangs = call
        self.process.kill()

    def _how_it_ended(self) -> str:
        self.process.join(_STOP_SECONDS)
        code = self.process.exitcode
        if code == 0:
            hint = "it had been told to, or had failed before."
        elif code == -signal.SIGKILL:
            hint = f"it was killed, perhaps for memory: take fewer {self._fewer}."
        else:
            hint = (
                "what it said is above. A script that starts processes has to do so under "
                "'if __name__ == \"__main__\":', and have its own classes in a module."
            )
        return f"ended with exit code {code}; {hint}"


class Workers:
    """Workers that end together: by `stop`, with this object, or with this process."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self.stop = weakref.finalize(self, _stop, self._workers, os.getpid())
        """End them when they have answered; a second call does nothing."""

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    def start(
        self, make_handler: Callable[..., Handler], *arguments: Any, name: str, fewer: str
    ) -> Worker:
        """Start one more; arguments as for `Worker`."""
        self._workers.append(Worker(make_handler, *arguments, name=name, fewer=fewer))
        return self._workers[-1]

    def abort(self) -> None:
        """End them at once, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        self.stop()


def that_answered(workers: Iterable[Worker]) -> list[Worker]:
    """Wait until one of the workers can be received from; all of which that holds."""
    pipes = {worker.pipe: worker for worker in workers}
    return [pipes[pipe] for pipe in connection.wait(list(pipes))]  # type: ignore[index]


def _stop(workers: list[Worker], owner: int) -> None:
    """End the workers that the process `owner` started, and forget them."""
    if os.getpid() != owner:
        # A forked copy of that process: the workers are not its children.
        return
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        worker.pipe.close()
        calls.unwatch(worker.call)
    for worker in workers:
        worker.process.join(_STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(_STOP_SECONDS)
    workers.clear()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
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


def _serve(
    pipe: connection.Connection,
    make_handler: Callable[..., Handler],
    arguments: tuple[Any, ...],
    parent: int,
    call: calls.Call,
) -> None:
    """In a worker: answer messages until None comes or the parent is gone."""
    calls.note_in(call)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # A signal to the whole process group is the parent's to answer.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    handler: Handler | None = None
    try:
        handler = make_handler(*arguments)
        # Where the pipe breaks, the parent is gone and nobody is left to tell.
        while (message := _next_message(pipe, parent)) is not None:
            answer = handler(message)
            with contextlib.suppress(OSError):
                pipe.send(answer)
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(_Failure(_sendable(error), traceback.format_exc()))
    finally:
        close = getattr(handler, "close", None)
        if close is not None:
            # Nothing depends on it any more.
            with contextlib.suppress(Exception):
                close()


def _end_with(parent: int) -> None:
    """End this process after its parent, whatever it is at."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    time.sleep(_STOP_SECONDS)
    os._exit(1)


def _next_message(pipe: connection.Connection, parent: int) -> Any:
    """What the parent sends next, or None for the end, which a dead parent is too."""
    # The pipe's other end may live on in processes that the parent forked.
    try:
        while not pipe.poll(_PARENT_CHECK_SECONDS):
            if os.getppid() != parent:
                return None
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _sendable(error: Exception) -> Exception:
    """The exception, or one that says the same where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(in_one_line(error))
    return error
