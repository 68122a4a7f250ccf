"""Loaded by the processes of a distributed run: one of them fails as `RANK_FAULT` says."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.errors import UserError


class Fault(Callback):
    """`RANK_FAULT` is `rank:what:step`; it happens after that update of the online stage."""

    def __init__(self) -> None:
        rank, self.what, step = os.environ.get("RANK_FAULT", "-1:none:0").split(":")
        self.rank, self.step = int(rank), int(step)
        if self.what == "starting" and os.environ.get("LOCAL_RANK") == rank:
            raise SystemExit(3)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        here = trainer.global_rank == self.rank and trainer.global_step >= self.step
        if self.what == "nan" and here:
            batch.get(("next", "reward")).fill_(float("nan"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if trainer.global_rank != self.rank or trainer.global_step < self.step:
            return
        if self.what == "user":
            raise UserError("the licence of the simulator has expired.")
        if self.what == "bug":
            raise ZeroDivisionError("no such luck")
        if self.what == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "stuck":
            time.sleep(1e6)
