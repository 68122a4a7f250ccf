"""Ctrl-C and SIGTERM: finish the update, save, stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

_log = logging.getLogger(__name__)


class GracefulInterrupt(Callback):
    """Stops training at the end of the current chunk, so that a whole checkpoint is saved.

    A second signal ends the process at once; the previous checkpoint stays whole.

    Attributes:
        received: The signal that stopped training, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning did; only the main thread may.

        Lightning gives back the handlers that were there before the fit, these signals' too.
        """
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Processes of one run stop at the same step, whichever the signal reached."""
        if trainer.world_size > 1:
            asked = torch.tensor(int(self.received or 0), device=pl_module.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            if asked:
                self.received = signal.Signals(int(asked))
                trainer.should_stop = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        assert self._trainer is not None
        if self._trainer.world_size == 1:
            self._trainer.should_stop = True
        _log.info(
            f"\n{self.received.name}: stopping after this chunk and saving; again to stop at once"
        )
