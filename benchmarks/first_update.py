"""A callback for a short run: when the first updates were done, and the process's peak memory."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class FirstUpdate(Callback):
    """Writes three facts as JSON, and ends training soon.

    ``first_update`` in seconds since the epoch, ``evaluation_seconds`` from the start of training
    to its first batch, ``peak_bytes``.

    Args:
        path: The file.
        updates: After so many training ends.
    """

    def __init__(self, path: str, updates: int = 200) -> None:
        self._path = Path(path)
        self._updates = updates
        self._started = 0.0
        self._evaluated = 0.0
        self._first: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time; callbacks of the user's come before the evaluation."""
        del trainer, pl_module
        self._started = time.time()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        del trainer, pl_module
        self._evaluated = time.time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Note the time of the first."""
        del pl_module, args, kwargs
        if self._first is None:
            self._first = time.time()
        if trainer.global_step >= self._updates:
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write, when everything has been done that a run does."""
        del trainer, pl_module, stage
        found = {
            "first_update": self._first,
            "evaluation_seconds": self._evaluated - self._started,
            "peak_bytes": peak_bytes(),
        }
        self._path.write_text(json.dumps(found))


def peak_bytes() -> int | None:
    """The largest resident size of this process so far; None where the system does not say."""
    try:
        import resource  # noqa: PLC0415
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
