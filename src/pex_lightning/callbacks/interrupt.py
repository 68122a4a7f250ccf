"""Stops training on Ctrl-C, SIGTERM and SIGHUP after the current chunk, with a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.parents import stopping
from pex_lightning.processes import STOP_SIGNALS, ignored

_log = logging.getLogger(__name__)


class GracefulInterrupt(Callback):
    """Stops training at the end of the current chunk on Ctrl-C, SIGTERM or SIGHUP.

    A second signal ends the process at once; the previous checkpoint stays intact.

    Attributes:
        received: The signal that asked to stop, or None.
        began: Whether training has begun, so that all that a checkpoint holds is restored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.began = False
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install signal handlers, which Python allows in the main thread only.

        Lightning has installed its own by now, and restores all previous ones after the fit.
        """
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if not ignored(number):
                    signal.signal(number, self._on_signal)

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Note that all that precedes training is done."""
        self.began = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Stop all processes of a run at the same step, whichever of them the signal reached."""
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
        stopping.set()
        assert self._trainer is not None
        if self._trainer.world_size == 1:
            self._trainer.should_stop = True
        _log.info(
            f"\n{self.received.name}: stopping after this chunk and saving; again to stop at once"
        )
