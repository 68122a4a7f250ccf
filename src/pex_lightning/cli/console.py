"""Set-up of a process for the terminal: log messages, warnings, signals and threads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pex_lightning.callbacks.messages import quiet_libraries, show_messages
from pex_lightning.files.cache import cache_path
from pex_lightning.processes import STOP_SIGNALS, ignored

BRIEF_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Environment variables that make waiting OpenMP threads spin briefly, then sleep."""


class _Unheard:
    """A stream that may lose its reader, such as a terminal that is closed; writing goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop the text where nobody reads it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, where somebody reads it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


@contextlib.contextmanager
def perhaps_unheard() -> Iterator[None]:
    """Let a long run go on where nobody reads its output any more."""
    out, err = _Unheard(sys.stdout), _Unheard(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def _unless_raised_later(args: threading.ExceptHookArgs) -> None:
    """Print what ended a thread, but not TensorBoard's writer, whose error is raised again."""
    written = type(args.thread).__module__.startswith("tensorboard.")
    if not (written and isinstance(args.exc_value, OSError)):
        threading.__excepthook__(args)


def set_up_threads() -> None:
    """Make waiting OpenMP threads spin briefly, then sleep; call it before torch is loaded.

    Threads that spin long are slow if others, such as an evaluation's environments, need the same
    cores; threads that sleep at once are slow on an idle machine (see docs/performance.md for
    measurements). Variables that the user has set are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in BRIEF_WAIT.items():
            os.environ.setdefault(name, value)


def set_up_process() -> None:
    """Show this package's messages, but only warnings of libraries; set up threads and caches.

    Call it before torch and TorchRL are imported, as they read their settings at import.
    """
    os.environ.setdefault("RL_LOGGING_LEVEL", "ERROR")
    set_up_threads()
    # Cache compiled updates next to the datasets; torch's default folder may not survive a reboot.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_path("compiled")))
    import pytorch_lightning  # noqa: F401, PLC0415  (it sets its loggers' levels when imported)

    quiet_libraries()
    show_messages()
    threading.excepthook = _unless_raised_later


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Exit by an exception on SIGTERM and SIGHUP, so that unfinished files are cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in STOP_SIGNALS if number != signal.SIGINT]
    before = {number: signal.signal(number, leave) for number in numbers if not ignored(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
