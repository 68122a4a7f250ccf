"""A process that stops when the one that started it is gone."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "PEX_LIGHTNING_STOPS_WITH_PARENT"
"""Environment variable with the parent's number; what a run starts itself does not inherit it."""

_CHECK_SECONDS = 1.0
stopping = threading.Event()
"""Set once this process has been asked to stop; a second signal would end it before it saves."""


def follow_parent() -> None:
    """Send this process a SIGTERM when its parent is gone, if the environment asks for it.

    A run then saves and ends, and can be gone on with: two processes never train the same run.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        # Some schedulers start processes that ignore it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    if not stopping.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
