"""One stage of a run: its folder, its callbacks, its trainer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.algorithms import Algorithm
from pex_lightning.algorithms.checks import check_precision, default_hyper_parameters, method_name
from pex_lightning.callbacks.checkpoint import BEST, LAST
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.loggers import end_loggers
from pex_lightning.callbacks.stage_callbacks import stage_callbacks, stage_loggers
from pex_lightning.callbacks.stage_length import evaluation_interval
from pex_lightning.cli.ranks import Ranks, check_strategy
from pex_lightning.cli.settings import RunSettings
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.schedule import Interval
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.files.atomic import remove_leftovers, replaced
from pex_lightning.files.disk import failed_write
from pex_lightning.handover import Checkpoint, check_resume
from pex_lightning.handover.checkpoint import Stage as StageName
from pex_lightning.seeding import derive_seed

_OF_DAMAGED_STATE = (
    AttributeError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True)
class StageEnd:
    """How a stage ended.

    Attributes:
        received: The signal that stopped it, or None.
        gradient_steps: Updates done.
        max_steps: Updates that were to be done.
    """

    received: Signals | None
    gradient_steps: int
    max_steps: int

    @property
    def early(self) -> bool:
        """Whether updates are left to do."""
        return self.gradient_steps < self.max_steps


@dataclass(frozen=True)
class Stage:
    """What one stage trains, on what, and where its results go.

    Attributes:
        name: `offline` or `online`.
        directory: `<root>/<run>/<name>`.
        module: The learner.
        data: Its data.
        trainer_args: Arguments of Lightning's Trainer.
        seed: The run's seed.
        evaluation: How the policy is evaluated.
        settings: Settings of the run.
        flags: Where its Trainer's arguments are on the command line.
        place: Its number among the stages of the run, and how many these are.
        config: The resolved configuration of the whole run, YAML; to be given before it is run.
    """

    name: StageName
    directory: Path
    module: Algorithm
    data: OfflineData
    trainer_args: Mapping[str, Any]
    seed: int
    evaluation: EvaluationSettings
    settings: RunSettings
    flags: str
    place: tuple[int, int] = (1, 1)
    config: str = ""

    @property
    def last(self) -> Path:
        """The latest checkpoint."""
        return self.directory / "checkpoints" / LAST

    @property
    def newest(self) -> Path | None:
        """What to go on from: the latest checkpoint, else the best; None before there is any."""
        known = (self.last, self.last.with_name(BEST))
        return next((path for path in known if path.exists()), None)

    @property
    def algorithm(self) -> str:
        """What the method is called in checkpoints."""
        return method_name(type(self.module))

    @property
    def max_steps(self) -> int:
        """Gradient steps that the stage ends with."""
        return int(self.trainer_args["max_steps"])

    @property
    def interval(self) -> Interval:
        """When it is evaluated."""
        return evaluation_interval(self.data, self.evaluation)

    @property
    def evaluation_seed(self) -> int:
        """Seed of the first episode of every evaluation."""
        return self.evaluation.first_seed(self.seed)

    def check_resume(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that this stage cannot go on from.

        Raises:
            UserError: Its class or its hyper-parameters are others, or it is not resumable.
        """
        defaults = default_hyper_parameters(type(self.module))
        check_resume(checkpoint, self.algorithm, self.module.hparams, defaults)

    def check_trainer(self) -> Trainer:
        """Refuse Trainer arguments that are wrong or that this loop cannot honour.

        Returns:
            A trainer with these arguments, which has started nothing.

        Raises:
            UserError: Names the flag, or gives Lightning's own words.
        """
        flag, arguments = f"--{self.flags}", self.trainer_args
        if arguments.get("accumulate_grad_batches", 1) != 1:
            raise UserError(
                f"{flag}.accumulate_grad_batches is {arguments['accumulate_grad_batches']}; every "
                "batch is one gradient step here. Use a larger --data.batch_size."
            )
        if arguments.get("enable_checkpointing") is False:
            raise UserError(
                f"{flag}.enable_checkpointing is false, but stages hand over through checkpoints."
            )
        trainer = self._build_trainer({**arguments, "logger": False, "callbacks": None})
        check_strategy(trainer.strategy, flag, arguments.get("strategy"))
        check_precision(trainer.precision, flag)
        return trainer

    def run(self, ranks: Ranks, resume: Checkpoint | None = None) -> StageEnd:
        """Train.

        Args:
            ranks: The processes of the run.
            resume: What to go on from.

        Raises:
            UserError: The folder cannot be written, the replay buffer of `resume` is not beside
                it, or another process of the run has ended.
        """
        self.prepare_directory()
        self.data.setup()
        seed_everything(derive_seed("stage", self.seed, self.name) % 2**32, verbose=False)
        interrupt = GracefulInterrupt()
        loggers: list[Logger] = []
        try:
            loggers += self._loggers(resume)
            trainer = self._trainer(interrupt, loggers)
            with ranks.training(trainer):
                trainer.fit(
                    self.module,
                    datamodule=self.data,
                    ckpt_path=None if resume is None else str(resume.path),
                    weights_only=True,
                )
        except SystemExit as stop:
            # Lightning's answer to a KeyboardInterrupt.
            raise KeyboardInterrupt from stop
        except UserError:
            raise
        except Exception as error:
            # Whoever wrote it: checkpoints, the replay buffer, loggers.
            if (failed := failed_write(error, self.directory)) is not None:
                raise UserError(_disk_failure(failed, self.directory)) from error
            if resume is None or interrupt.began or not isinstance(error, _OF_DAMAGED_STATE):
                raise
            # Lightning, torch and callbacks restore what they kept without looking at it.
            raise UserError(
                f"--ckpt_path {resume.path}: the state of its training is damaged or was altered "
                f"({in_one_line(error)}). Take another checkpoint; its policy can be used as it is."
            ) from error
        finally:
            end_loggers(loggers, failed=sys.exc_info()[0] is not None)
        return StageEnd(interrupt.received, trainer.global_step, trainer.max_steps)

    def _trainer(self, interrupt: GracefulInterrupt, loggers: list[Logger]) -> Trainer:
        callbacks = stage_callbacks(
            self.directory,
            self.name,
            replace(self.evaluation, episodes=1)
            if self.trainer_args.get("fast_dev_run")
            else self.evaluation,
            self.data,
            seed=self.seed,
            save_every=self.settings.save_every,
            progress=self.trainer_args.get("enable_progress_bar") is not False,
            place=self.place,
            interrupt=interrupt,
        )
        arguments = dict(self.trainer_args)
        arguments["callbacks"] = [*(arguments.get("callbacks") or []), *callbacks]
        arguments["logger"] = loggers
        return self._build_trainer(arguments)

    def _build_trainer(self, arguments: dict[str, Any]) -> Trainer:
        arguments["default_root_dir"] = str(self.directory)
        if arguments.get("enable_model_summary") is None:
            arguments["enable_model_summary"] = False
        try:
            return Trainer(**arguments)
        except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
            raise UserError(
                f"--{self.flags}.*: Lightning refuses these settings: {error}"
            ) from error

    def _loggers(self, resume: Checkpoint | None) -> list[Logger]:
        """Those of `--run.loggers`, then those of the Trainer's arguments."""
        configured = self.trainer_args.get("logger")
        if configured is False or self.trainer_args.get("fast_dev_run"):
            return []
        names, root, run = self.settings.loggers, Path(self.settings.root), self.settings.name
        return stage_loggers(names, root, run, self.name, self.data.describe(), resume, configured)

    @rank_zero_only
    def _write_config(self) -> None:
        remove_leftovers(self.directory / "config.yaml")
        with replaced(self.directory / "config.yaml") as aside:
            aside.write_text(self.config)

    def prepare_directory(self) -> None:
        """Create the stage's folder and write the configuration into it.

        Raises:
            UserError: It cannot be written.
        """
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            self._write_config()
        except OSError as error:
            raise UserError(
                f"the results cannot be written to {self.directory}: {error.strerror}. Choose "
                "another folder with --run.root."
            ) from error


def _disk_failure(error: OSError, directory: Path) -> str:
    """What could not be written or read during training, why, and how to go on."""
    path = Path(error.filename2 or error.filename or directory)
    # A file that is written aside is gone by now.
    place = path.parent if path.suffix == ".part" else path
    return (
        f"{place}: {error.strerror or error}. The checkpoints before it are whole: make space or "
        "repair the folder, and go on with the same command and --ckpt_path last."
    )
