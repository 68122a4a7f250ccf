"""`status.json`: how far a stage is, for whoever watches the run from outside."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.stage_data import stage_data
from pex_lightning.files.atomic import replaced

STATUS = "status.json"
WRITE_SECONDS = 2.0
_LARGEST = 100_000


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is.

    Attributes:
        gradient_steps: Updates done.
        max_steps: Updates that it ends with.
        env_steps: Environment steps done.
        score: The last evaluation's score or, where there is none, its return; None before it.
        updates_per_second: Over the last seconds, without evaluations.
        train_seconds: Time since this process began the stage, without evaluations.
        evaluation_seconds: Time spent in evaluations since then.
        evaluations: How many there were since then.
        first_step: Updates that were done when this process began.
        start_seconds: Part of `train_seconds` until this process had done its first chunk of
            updates, with what comes once: collecting before it, and waiting for the compiler
            where that is before the first update.
        start_step: Updates that were done then.
    """

    gradient_steps: int
    max_steps: int
    env_steps: int
    score: float | None
    updates_per_second: float
    train_seconds: float
    evaluation_seconds: float
    evaluations: int
    first_step: int
    start_seconds: float
    start_step: int

    @property
    def seconds_per_update(self) -> float | None:
        """Of the updates after the first chunk, without evaluations; None before there are any."""
        updates = self.gradient_steps - self.start_step
        return (self.train_seconds - self.start_seconds) / updates if updates > 0 else None


def read_status(stage: Path) -> StageStatus | None:
    """The status of a stage's folder; None if it has none that can be read."""
    try:
        with (stage / STATUS).open("rb") as file:
            content = json.loads(file.read(_LARGEST))
        status = StageStatus(**{field.name: content[field.name] for field in fields(StageStatus)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    values = [value for value in asdict(status).values() if value is not None]
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    return status if numbers and status.gradient_steps >= 0 else None


class StatusFile(Callback):
    """Writes `status.json` every two seconds; a file that cannot be written does no harm.

    Args:
        directory: Folder of the stage.
        evaluation: Provides the last score, and the time that evaluations took.
    """

    def __init__(self, directory: Path, evaluation: Evaluation) -> None:
        self._directory = directory
        self._evaluation = evaluation
        self._began = self._written = time.monotonic()
        self._first_step = 0
        self._start: tuple[float, int] | None = None
        self._before: tuple[float, int] = (0.0, 0)
        self._speed = 0.0
        self._evaluations = 0
        self._evaluated_at: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure time, before the first evaluation."""
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the first status."""
        self._first_step = trainer.global_step
        self._before = (self._train_seconds(), trainer.global_step)
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Write the status if two seconds have passed since the last one."""
        if self._start is None:
            self._start = (self._train_seconds(), trainer.global_step)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last status."""
        self._write(trainer)

    def _train_seconds(self) -> float:
        return time.monotonic() - self._began - self._evaluation.seconds

    def _write(self, trainer: Trainer) -> None:
        if trainer.global_rank != 0:
            return
        self._written = time.monotonic()
        seconds, step = self._train_seconds(), trainer.global_step
        if step > self._before[1] and seconds > self._before[0]:
            self._speed = (step - self._before[1]) / (seconds - self._before[0])
            self._before = (seconds, step)
        if self._evaluation.evaluated_at != self._evaluated_at:
            self._evaluated_at = self._evaluation.evaluated_at
            self._evaluations += 1
        start_seconds, start_step = self._start or (seconds, step)
        latest = self._evaluation.latest
        score = latest.get("eval/score", latest.get("eval/return"))
        status = StageStatus(
            gradient_steps=step,
            max_steps=trainer.max_steps,
            env_steps=stage_data(trainer).env_steps,
            score=None if score is None or not math.isfinite(score) else float(score),
            updates_per_second=self._speed,
            train_seconds=seconds,
            evaluation_seconds=self._evaluation.seconds,
            evaluations=self._evaluations,
            first_step=self._first_step,
            start_seconds=start_seconds,
            start_step=start_step,
        )
        content = {**asdict(status), "process": os.getpid(), "time": time.time()}
        with contextlib.suppress(OSError), replaced(self._directory / STATUS) as aside:
            aside.write_text(json.dumps(content) + "\n")
