"""Warnings, once each, of signs that learning fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.signs import SIGNS, Seen, Sign, Thresholds

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Warned:
    """A sign that was seen.

    Attributes:
        step: The gradient step.
        found: What was seen, in words.
    """

    step: int
    found: str


class FailureSigns(Callback):
    """Reads reports and evaluations, and warns when a sign is seen in several of them in a row.

    Each sign is warned of once in a run, also if the run is resumed.

    Args:
        metrics: Gives the reports.
        evaluation: Gives the evaluations.
        thresholds: When something counts as a sign.

    Attributes:
        warned: The signs that were warned of, by name.
    """

    def __init__(
        self,
        metrics: TrainMetrics,
        evaluation: Evaluation,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._metrics = metrics
        self._evaluation = evaluation
        self._thresholds = thresholds or Thresholds()
        self._first: dict[str, float] = {}
        self._in_a_row: dict[str, int] = {}
        self._read_at: dict[str, int | None] = {}
        self.warned: dict[str, Warned] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the evaluation of the start; a resumed run read that of its checkpoint before."""
        if trainer.global_step > 0:
            self._read_at["eval"] = self._evaluation.evaluated_at
        self._read(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Read what is new."""
        self._read(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the last evaluation."""
        self._read(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What was warned of, and what warnings to come depend on."""
        return {
            "first": dict(self._first),
            "in_a_row": dict(self._in_a_row),
            "warned": {name: [seen.step, seen.found] for name, seen in self.warned.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self._first = {str(name): float(value) for name, value in state_dict["first"].items()}
        self._in_a_row = {str(name): int(count) for name, count in state_dict["in_a_row"].items()}
        self.warned = {
            str(name): Warned(int(step), str(found))
            for name, (step, found) in state_dict["warned"].items()
        }

    def _read(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(Algorithm, pl_module)
        metrics, evaluation = self._metrics, self._evaluation
        needed = self._thresholds.reports, self._thresholds.evaluations
        for source, at, row, in_a_row in (
            ("train", metrics.reported_at, metrics.latest, needed[0]),
            ("eval", evaluation.evaluated_at, evaluation.latest, needed[1]),
        ):
            if at is None or at == self._read_at.get(source):
                continue
            self._read_at[source] = at
            if source == "train" and not self._first:
                self._first = dict(row)
            seen = Seen(row, self._first, module.acting_policy().members, self._thresholds)
            for sign in SIGNS:
                if sign.source == source and sign.name not in self.warned:
                    self._look(sign, seen, in_a_row, trainer, module)

    def _look(
        self, sign: Sign, seen: Seen, in_a_row: int, trainer: Trainer, module: Algorithm
    ) -> None:
        found = sign.found(seen)
        count = 0 if found is None else self._in_a_row.get(sign.name, 0) + 1
        self._in_a_row[sign.name] = count
        if found is None or count < in_a_row:
            return
        self.warned[sign.name] = Warned(trainer.global_step, found)
        if trainer.is_global_zero:
            tries = [t.text for t in sign.tries if t.setting is None or t.setting in module.hparams]
            _log.warning(
                f"Sign of failure at step {trainer.global_step:,}: {found}. If scores do not rise, "
                f"try {' or '.join(tries)} (docs/diagnostics.md)."
            )
