"""Other processes: workers that answer messages, jobs that do one thing, and how both end.

Workers import this module, so it must not import torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
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

Handler = Callable[[Any], Any]
"""Answers messages in a worker; its `close` is called at the end, where it has one."""


class WorkerTraceback(Exception):  # noqa: N818  (the cause of an error rather than one itself)
    """Where an exception came from in a worker, as text; the cause of the one raised here."""


@dataclass(frozen=True)
class _Failure:
    """Why a worker ended: the exception, and where it came from."""

    error: Exception
    details: str


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
            self._process = subprocess.Popen(
                # -P: not from the folder that the user happens to be in.
                [sys.executable, "-P", "-m", module],
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
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
    for number in (signal.SIGINT, signal.SIGTERM):
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
