"""What the terminal shows: our own lines, above the progress bar, and no adverts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType

from tqdm import tqdm

from pex_lightning.files.cache import cache_path

BRIEF_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""The environment in which OpenMP's threads spin for a moment when they wait, then sleep."""


class _AboveTheBar(logging.Handler):
    """Writes log lines to stderr without tearing a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def set_up_messages() -> None:
    """Show this package's messages on the first process."""
    ours = logging.getLogger("pex_lightning")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        ours.setLevel(logging.INFO)
        ours.handlers = [_AboveTheBar()]
    ours.propagate = False


def set_up_threads() -> None:
    """Have OpenMP's threads spin for a moment when they wait, and sleep after that.

    Threads that spin for long are slower as soon as anything else, such as the environments of an
    evaluation, wants the same cores (docs/performance.md has the measurements); threads that sleep
    at once are slower on a quiet machine. Read when torch is loaded; values of the user's stay.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in BRIEF_WAIT.items():
            os.environ.setdefault(name, value)


def set_up_process() -> None:
    """Show this package's messages; of the libraries, which are imported here, only warnings.

    Call it before torch and TorchRL are imported, which read their settings then.
    """
    os.environ.setdefault("RL_LOGGING_LEVEL", "ERROR")
    set_up_threads()
    # Compiled updates are kept with the datasets rather than in a folder that a reboot empties.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_path("compiled")))
    import pytorch_lightning  # noqa: F401, PLC0415  (it sets its loggers' levels when imported)

    for library in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(library).setLevel(logging.WARNING)
    set_up_messages()
    # Of interest to those who write such code, not to those who use it.
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    # It counts chunks where we count gradient steps.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Leave by way of an exception on SIGTERM, so that nothing half written stays behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
