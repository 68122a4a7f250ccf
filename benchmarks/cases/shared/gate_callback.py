"""The gate in a real `Trainer.fit`: gradient steps are counted where a training batch ends."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from benchmarks.cases.shared.setting import Gate


class GateCallback(Callback):
    """Lets `fit` run in its turns only. Without a gate, it does nothing.

    The command line builds it by its name, without arguments; hence the gate is an attribute of
    the class. Of several processes the first is held back, and the others wait for it.

    Attributes:
        gate: What it calls.
    """

    gate: Gate | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Report and wait where a block is over; end training where there are no more."""
        del pl_module, args, kwargs
        if self.gate is None or trainer.global_rank > 0:
            return
        if not self.gate.passed(trainer.global_step):
            trainer.should_stop = True
