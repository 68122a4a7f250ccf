"""One line about the stage: progress, speed, time left, last score and who acts."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any, cast

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.durations import duration
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.online import OnlineData
from pex_lightning.data.stage_data import stage_data

REFRESH_SECONDS = 0.5
REFRESH_SECONDS_IN_A_FILE = 60.0
_SPEED_SECONDS = 30.0
_FORMAT = "{desc} {percentage:3.0f}%|{bar:10}| {n:,}/{total:,}{postfix}"


class RunProgressBar(ProgressBar):
    """Counts gradient steps, and says what happens between them.

    On a terminal it is a bar that is drawn anew twice a second; elsewhere a plain line a minute.

    Args:
        stage: `offline` or `online`, shown in front.
        evaluation: Provides the last score, and tells of evaluations.
        number: The stage's number among those of the run.
        of: The number of stages.
    """

    def __init__(self, stage: str, evaluation: Evaluation, number: int = 1, of: int = 1) -> None:
        super().__init__()
        self._stage = stage if of == 1 else f"{stage} {number}/{of}"
        self._evaluation = evaluation
        self._bar: tqdm[Any] | None = None
        self._pl_trainer: Trainer | None = None
        self._enabled = True
        self._due = 0.0
        self._refresh = REFRESH_SECONDS
        self._paused = 0.0
        self._pause_began: float | None = None
        self._evaluated: tuple[str, int] | None = None
        self._evaluation_began = 0.0
        self._anchors: deque[tuple[float, int]] = deque()

    def disable(self) -> None:
        """Show nothing; Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress again after `disable`."""
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin before the first evaluation."""
        super().setup(trainer, pl_module, stage)
        if not self._enabled:
            return
        self._pl_trainer = trainer
        self._evaluation.watch = self._evaluating
        data = stage_data(trainer)
        if isinstance(data, OnlineData):
            data.watch = self._collecting
        terminal = sys.stderr.isatty()
        self._refresh = REFRESH_SECONDS if terminal else REFRESH_SECONDS_IN_A_FILE
        self._due = time.monotonic() + self._refresh
        if terminal:
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc=self._stage,
                dynamic_ncols=True,
                bar_format=_FORMAT,
            )
        else:
            self._show()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Show progress if it is due."""
        if not self._enabled:
            return
        self._evaluated = None
        if self._pause_began is not None:
            self._paused += time.monotonic() - self._pause_began
            self._pause_began = None
        if not self._anchors or time.monotonic() >= self._due:
            self._measure(trainer.global_step)
        if time.monotonic() >= self._due:
            self._show(*self._facts(trainer, cast(Algorithm, pl_module)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the final state."""
        if self._enabled:
            self._measure(trainer.global_step)
            self._show(*self._facts(trainer, cast(Algorithm, pl_module)))
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def _evaluating(self, member: str, done: int, episodes: int) -> None:
        now = time.monotonic()
        if self._evaluated is None or member != self._evaluated[0] or done < self._evaluated[1]:
            self._evaluation_began = now
        self._evaluated = member, done
        if now >= self._due:
            who = f"evaluating {member} alone" if member else "evaluating"
            since = duration(now - self._evaluation_began)
            self._show(f"{who}: {done:,} of {episodes:,} episodes, {since}", *self._score())

    def _collecting(self, done: int, needed: int) -> None:
        """Show environment steps before an update; updates' speed does not count them."""
        began = self._pause_began is None
        if began:
            self._pause_began = time.monotonic()
        if began or time.monotonic() >= self._due:
            self._show(f"collecting: {done:,} of {needed:,} environment steps", *self._score())

    def _show(self, *facts: str) -> None:
        """Draw the bar, or write a line."""
        assert self._pl_trainer is not None
        step = self._pl_trainer.global_step
        if self._bar is not None:
            self._bar.n = step
            self._bar.set_postfix_str(", ".join(facts), refresh=True)
        else:
            total = self._pl_trainer.max_steps
            share = f"{step:,} of {total:,} updates ({100 * step / max(1, total):.0f} %)"
            sys.stderr.write(f"{', '.join([f'{self._stage}: {share}', *facts])}\n")
            sys.stderr.flush()
        self._due = time.monotonic() + self._refresh

    def _close(self) -> None:
        self._evaluation.watch = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _measure(self, step: int) -> None:
        """Take the time that updates need, without evaluations and long collections."""
        now = time.monotonic() - self._evaluation.seconds - self._paused
        self._anchors.append((now, step))
        while len(self._anchors) > 2 and now - self._anchors[0][0] > _SPEED_SECONDS:
            self._anchors.popleft()

    def _facts(self, trainer: Trainer, module: Algorithm) -> list[str]:
        data = stage_data(trainer)
        facts = []
        (since, first), (now, step) = self._anchors[0], self._anchors[-1]
        if step > first and now > since:
            speed = (step - first) / (now - since)
            left = (trainer.max_steps - step) / speed + self._evaluation_seconds(trainer, module)
            if step < trainer.max_steps:
                facts.append(f"{duration(left)} left")
            facts.append(f"{speed:.3g} updates/s")
        facts += self._score()
        # The last member's share is the rest.
        for name, share in list(data.recent_shares().items())[:-1]:
            facts.append(f"{name} acts {100 * share:.0f} %")
        if data.steps_environment:
            facts.append(f"{data.env_steps:,} env steps")
        return facts

    def _evaluation_seconds(self, trainer: Trainer, module: Algorithm) -> float:
        """Seconds that the evaluations to come take, if they take as long as those before."""
        evaluation, members = self._evaluation, len(module.acting_policy().members)
        if not evaluation.runs:
            return 0.0
        left = evaluation.runs_left(trainer.global_step, trainer.max_steps, members)
        return left * evaluation.seconds / evaluation.runs

    def _score(self) -> list[str]:
        latest = self._evaluation.latest
        for name in ("score", "return"):
            if f"eval/{name}" in latest:
                return [f"{name} {latest[f'eval/{name}']:.1f}"]
        return []
