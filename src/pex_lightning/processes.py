"""Starting processes without a signal reaching them before they can deal with it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker


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
