"""One stage of a run: its folder, its callbacks, its trainer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, Literal

from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from pex_lightning.algorithms import Algorithm
from pex_lightning.callbacks.checkpoint import BEST, LAST, RunCheckpoint
from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.progress import RunProgressBar
from pex_lightning.cli.settings import EvaluationSettings
from pex_lightning.data.offline import OfflineData
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint, check_resume
from pex_lightning.seeding import derive_seed

StageName = Literal["offline", "online"]


@dataclass(frozen=True)
class Stage:
    """What one stage trains, on what, and where its results go.

    Attributes:
        name: ``offline`` or ``online``.
        directory: ``<root>/<run>/<name>``.
        module: The learner.
        data: Its data.
        trainer_args: Arguments of Lightning's Trainer.
        config: The resolved configuration of the whole run, YAML.
        seed: The run's seed.
        evaluation: How the policy is evaluated.
        save_every: Gradient steps between checkpoints.
    """

    name: StageName
    directory: Path
    module: Algorithm
    data: OfflineData
    trainer_args: Mapping[str, Any]
    config: str
    seed: int
    evaluation: EvaluationSettings
    save_every: int

    @property
    def last(self) -> Path:
        """The latest checkpoint."""
        return self.directory / "checkpoints" / LAST

    @property
    def best(self) -> Path:
        """The checkpoint with the best evaluation."""
        return self.directory / "checkpoints" / BEST

    @property
    def algorithm(self) -> str:
        """Class name of the learner."""
        return type(self.module).__name__

    @property
    def max_steps(self) -> int:
        """Gradient steps that the stage ends with."""
        return int(self.trainer_args["max_steps"])

    def check_resume(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that this stage cannot go on from.

        Raises:
            UserError: Its class or its hyper-parameters are others.
        """
        check_resume(checkpoint, self.algorithm, self.module.hparams)

    def run(self, resume: Checkpoint | None = None) -> Signals | None:
        """Train; returns the signal that ended it early, if one did.

        Raises:
            UserError: The folder cannot be written, or the replay buffer of ``resume`` is not
                beside it.
        """
        self._prepare_directory()
        seed_everything(derive_seed("stage", self.seed, self.name) % 2**32, verbose=False)
        interrupt = GracefulInterrupt()
        trainer = self._trainer(interrupt, resume)
        trainer.fit(
            self.module,
            datamodule=self.data,
            ckpt_path=None if resume is None else str(resume.path),
            weights_only=True,
        )
        return interrupt.received

    def _trainer(self, interrupt: GracefulInterrupt, resume: Checkpoint | None) -> Trainer:
        settings = self.evaluation
        seed = settings.seed
        evaluation = Evaluation(
            episodes=1 if self.trainer_args.get("fast_dev_run") else settings.episodes,
            every=settings.every,
            seed=derive_seed("evaluation", self.seed) % 2**31 if seed is None else seed,
            num_envs=settings.num_envs,
            interrupt=interrupt,
        )
        callbacks: list[Callback] = [interrupt, evaluation, TrainMetrics()]
        if self.trainer_args.get("enable_progress_bar") is not False:
            callbacks.append(RunProgressBar(self.name, evaluation))
        callbacks.append(RunCheckpoint(self.last.parent, self.save_every, evaluation))
        arguments = dict(self.trainer_args)
        arguments["callbacks"] = [*(arguments.get("callbacks") or []), *callbacks]
        arguments["logger"] = self._loggers(arguments.get("logger"), resume)
        arguments["default_root_dir"] = str(self.directory)
        if arguments.get("enable_model_summary") is None:
            arguments["enable_model_summary"] = False
        return Trainer(**arguments)

    def _loggers(self, configured: Any, resume: Checkpoint | None) -> list[Logger] | bool:
        """Ours, then those that the user configured; none where they said ``false``."""
        if configured is False:
            return False
        step = 0 if resume is None else resume.header.gradient_steps
        ours: list[Logger] = [
            MetricsCSV(self.directory, step),
            TensorBoardLogger(str(self.directory), name="", version="", purge_step=step or None),
        ]
        if configured is None or configured is True:
            return ours
        return [*ours, *(configured if isinstance(configured, list) else [configured])]

    def _prepare_directory(self) -> None:
        """Create the stage's folder and write the configuration into it."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            aside = self.directory / ".config.yaml.part"
            aside.write_text(self.config)
            os.replace(aside, self.directory / "config.yaml")
        except OSError as error:
            raise UserError(
                f"the results cannot be written to {self.directory}: {error.strerror}. Choose "
                "another folder with --run.root."
            ) from error


def refuse_to_overwrite(directory: Path, overwrite: bool) -> None:
    """Make room for a new run, or refuse.

    Raises:
        UserError: A run of that name is there, and ``overwrite`` is off.
    """
    if not any(directory.glob("*/checkpoints/*.ckpt")):
        return
    if not overwrite:
        raise UserError(
            f"{directory} already holds a run. Go on with it by --ckpt_path last, choose another "
            "--run.name, or replace it with --run.overwrite true."
        )
    for stage in ("offline", "online"):
        shutil.rmtree(directory / stage, ignore_errors=True)
