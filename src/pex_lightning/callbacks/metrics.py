"""Training metrics, copied from the device only when they are logged."""

from __future__ import annotations

import time
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from tensordict import TensorDictBase

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.algorithms.diagnosis import diagnose
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.loggers import log
from pex_lightning.data.stage_data import stage_data


class TrainMetrics(Callback):
    """Logs `train/*` every `trainer.log_every_n_steps` gradient steps.

    These are the diagnostics of the module's last update, what `diagnose` finds on its batch, and,
    since the last report, statistics of the collected frames and `train/updates_per_second`,
    without the time of evaluations.

    Args:
        evaluation: Measures how long evaluations take; None if there are none.

    Attributes:
        latest: The metrics of the last report, by name; empty before the first.
        reported_at: The gradient step of the last report.
    """

    def __init__(self, evaluation: Evaluation | None = None) -> None:
        self._evaluation = evaluation
        self._logged_at = 0
        self._since = 0.0
        self.latest: dict[str, float] = {}
        self.reported_at: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting steps and time."""
        self._logged_at, self._since = trainer.global_step, self._training_time()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TensorDictBase,
        batch_idx: int,
    ) -> None:
        """Log if a report is due."""
        steps = trainer.global_step - self._logged_at
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if steps == 0 or every == 0 or trainer.global_step // every == self._logged_at // every:
            return
        now = self._training_time()
        module = cast(Algorithm, pl_module)
        metrics = {f"train/{name}": float(value) for name, value in module.diagnostics.items()}
        for name, value in diagnose(module, batch).items():
            metrics[f"train/{name}"] = value
        metrics["train/updates_per_second"] = steps / (now - self._since)
        for name, value in stage_data(trainer).take_statistics().items():
            metrics[f"train/{name}"] = value
        self._logged_at, self._since = trainer.global_step, now
        self.latest, self.reported_at = log(trainer, metrics), trainer.global_step

    def _training_time(self) -> float:
        """Seconds on a clock that stops during evaluations."""
        spent = 0.0 if self._evaluation is None else self._evaluation.seconds
        return time.perf_counter() - spent
