"""A callback for a short run: when the first updates were done, and how much memory it took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from benchmarks.cases.shared.fit import plain_updates


class FirstUpdate(Callback):
    """Writes facts as JSON, and ends training soon after its updates have become compiled ones.

    `first_update` in seconds since the epoch, `evaluation_seconds` from the start of training
    to its first batch, `compiler_seconds` that training waited for the compiler, `peak_bytes`
    of this process, `helper_peak_bytes` of the largest of those that it started.

    Args:
        path: The file.
        updates: After so many training ends; by default after the first 200 compiled ones.
    """

    def __init__(self, path: str, updates: int | None = None) -> None:
        self._path = Path(path)
        self._plain = plain_updates()
        self._updates = self._plain + 200 if updates is None else updates
        self._started = 0.0
        self._evaluated = 0.0
        self._first: float | None = None
        self._before = 0.0
        self._waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time; callbacks of the user's come before the evaluation."""
        del trainer, pl_module
        self._started = time.time()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        del trainer, pl_module
        self._evaluated = time.time()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Note the time before the first update that is compiled."""
        del pl_module, args, kwargs
        if trainer.global_step >= self._plain and not self._before:
            self._before = time.time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Note the time of the first, and what the first that is compiled took."""
        del pl_module, args, kwargs
        if self._before and not self._waited:
            self._waited = time.time() - self._before
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
            "compiler_seconds": self._waited,
            "peak_bytes": peak_bytes(),
            "helper_peak_bytes": peak_bytes(children=True),
        }
        self._path.write_text(json.dumps(found))


def peak_bytes(*, children: bool = False) -> int | None:
    """The largest resident size so far; None where the system does not say.

    Args:
        children: Of the largest process that this one started and that has ended.
    """
    try:
        import resource  # noqa: PLC0415
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return unit * resource.getrusage(who).ru_maxrss
