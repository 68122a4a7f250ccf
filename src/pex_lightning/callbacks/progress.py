"""A progress bar of one line: progress, speed, last score and which policy acts."""

from __future__ import annotations

import sys
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.stage_data import stage_data

REFRESH_SECONDS = 0.5
REFRESH_SECONDS_IN_A_FILE = 60.0


class RunProgressBar(ProgressBar):
    """Counts gradient steps; shows updates per second, the last score and each policy's share.

    Args:
        stage: `offline` or `online`, shown in front.
        evaluation: Provides the last score.
    """

    def __init__(self, stage: str, evaluation: Evaluation) -> None:
        super().__init__()
        self._stage = stage
        self._evaluation = evaluation
        self._bar: tqdm[Any] | None = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar again after `disable`."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        if self._enabled:
            terminal = sys.stderr.isatty()
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc=self._stage,
                unit="update",
                dynamic_ncols=True,
                mininterval=REFRESH_SECONDS if terminal else REFRESH_SECONDS_IN_A_FILE,
                smoothing=0.1,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Advance the bar; tqdm decides when to redraw it."""
        if self._bar is None:
            return
        self._bar.set_postfix(self._facts(trainer), refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the final state and close the bar."""
        if self._bar is not None:
            self._bar.set_postfix(self._facts(trainer), refresh=True)
            self._bar.close()
            self._bar = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def _facts(self, trainer: Trainer) -> dict[str, str]:
        facts: dict[str, str] = {}
        latest = self._evaluation.latest
        for name, shown in (("eval/score", "score"), ("eval/return", "return")):
            if name in latest:
                facts[shown] = f"{latest[name]:.1f}"
                break
        data = stage_data(trainer)
        # The last member's share is the rest.
        for name, share in list(data.recent_shares().items())[:-1]:
            facts[name] = f"{100 * share:.0f}%"
        if data.steps_environment:
            facts["env"] = f"{data.env_steps:,}"
        return facts
