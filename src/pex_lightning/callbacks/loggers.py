"""The loggers of a stage: which there are, how they start and end, and on what axis they log."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.data.stage_data import stage_data
from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.files.atomic import replaced
from pex_lightning.files.locks import locked

_log = logging.getLogger(__name__)

LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow"]
IDS = "loggers.json"
"""Under which ids W&B and MLflow know a stage, so that a resumed one goes on there."""
_PROJECT = "pex-lightning"
_PACKAGES = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
_HELP = {
    "wandb": "Run `wandb login`, or set WANDB_MODE=offline.",
    "mlflow": "Check MLFLOW_TRACKING_URI.",
}
_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
_LARGEST = 10_000


@dataclass(frozen=True)
class LoggedStage:
    """What loggers are told of a stage.

    Attributes:
        run: Name of the run.
        root: Folder of all runs, in which W&B and MLflow keep what is local to them.
        name: `offline` or `online`.
        directory: The stage's folder.
        dataset: What is the same in every row: the dataset, its fingerprint, the environment.
        resumed_at: Gradient steps and environment steps of the checkpoint that it goes on from.
    """

    run: str
    root: Path
    name: str
    directory: Path
    dataset: Mapping[str, str]
    resumed_at: tuple[int, int] | None = None


def check_installed(names: Sequence[LoggerName]) -> None:
    """Refuse loggers whose package is missing.

    Raises:
        UserError: Names the logger and the command that installs it.
    """
    for name in names:
        missing = [p for p in _PACKAGES.get(name, ()) if importlib.util.find_spec(p) is None]
        if missing:
            raise UserError(
                f"--run.loggers names {name}, which needs {' and '.join(missing)}: pip install "
                f"'pex-lightning[{name}]'."
            )


def start_loggers(names: Sequence[LoggerName], stage: LoggedStage) -> list[Logger]:
    """Build loggers and connect them.

    Raises:
        UserError: A file cannot be written, or a service does not answer.
    """
    ids = {} if stage.resumed_at is None else _read_ids(stage.directory)
    loggers = [_build(name, stage, ids) for name in dict.fromkeys(names)]
    for name, logger in zip(dict.fromkeys(names), loggers, strict=True):
        with _refusal(name):
            logger.log_hyperparams(dict(stage.dataset))
    _write_ids(stage.directory, ids)
    return loggers


def log(trainer: Trainer, metrics: Mapping[str, float]) -> dict[str, float]:
    """Give metrics to all loggers of a trainer, with `env_steps` beside them.

    TensorBoard and MLflow draw over one number, which is the environment's steps where a stage
    steps one, and the gradient step elsewhere. All others are given the gradient step.

    A service that fails during training is left out from then on; it does not end the run.

    Returns:
        The metrics with `env_steps`.
    """
    data = stage_data(trainer)
    row = {**metrics, "env_steps": data.env_steps}
    axis = data.env_steps if data.steps_environment else trainer.global_step
    for logger in list(trainer.loggers):
        over_axis = isinstance(logger, TensorBoardLogger | MLFlowLogger)
        try:
            logger.log_metrics(row, axis if over_axis else trainer.global_step)
        except Exception as error:
            if not isinstance(logger, WandbLogger | MLFlowLogger):
                raise
            trainer.loggers = [other for other in trainer.loggers if other is not logger]
            _log.warning(
                "%s cannot be written to (%s), so the run goes on without it.",
                type(logger).__name__,
                shortened(in_one_line(error)),
            )
    return row


@rank_zero_only
def end_loggers(loggers: Sequence[Logger], failed: bool) -> None:
    """End what Lightning leaves open: W&B's run, which the next stage would go on with."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            try:
                logger.experiment.finish(exit_code=int(failed))
            except Exception as error:
                _log.warning("W&B's run did not end (%s).", shortened(in_one_line(error)))


def _build(name: LoggerName, stage: LoggedStage, ids: dict[str, str]) -> Logger:
    online = stage.name == "online"
    steps, env_steps = stage.resumed_at or (0, 0)
    title = f"{stage.run}/{stage.name}"
    if name == "csv":
        return MetricsCSV(stage.directory, steps, stage.dataset)
    if name == "tensorboard":
        # TensorBoard hides what a run logged at this step or later before it was resumed.
        purge = None if stage.resumed_at is None else (env_steps if online else steps) + 1
        return TensorBoardLogger(
            str(stage.directory), name="", version="", purge_step=purge, default_hp_metric=False
        )
    if name == "wandb":
        ids.setdefault(name, secrets.token_hex(8))
        logger = _StepWandbLogger(
            name=title,
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            save_dir=str(stage.root),
            version=ids[name],
            group=stage.run,
            job_type=stage.name,
        )
        if online:
            _draw_over_env_steps(logger)
        return logger
    return _mlflow(title, stage, ids)


class _StepWandbLogger(WandbLogger):
    """Gives W&B the gradient step as its own step as well.

    W&B's own count would begin at 0 when a stage is resumed without a network, and when both
    attempts are sent to the server, the rows of the second would take the place of the first one's.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step)


@rank_zero_only
def _draw_over_env_steps(logger: WandbLogger) -> None:
    with _refusal("wandb"):
        # Lightning has defined the gradient step for all of them.
        every = {"step_metric": "env_steps", "step_sync": True, "overwrite": True}
        logger.experiment.define_metric("*", **every)


def _mlflow(title: str, stage: LoggedStage, ids: dict[str, str]) -> MLFlowLogger:
    database = (stage.root / "mlflow.db").resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"
    with _refusal("mlflow"):
        logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
            run_name=title,
            tracking_uri=uri,
            tags={"run": stage.run, "stage": stage.name},
            run_id=ids.get("mlflow"),
        )
        _open_mlflow(logger, database, ids)
    return logger


@rank_zero_only
def _open_mlflow(logger: MLFlowLogger, database: Path, ids: dict[str, str]) -> None:
    """Begin MLflow's run, or go on with it."""
    # Runs that start together would each create the tables and the experiment.
    with locked(database):
        client = logger.experiment
    if "mlflow" in ids:
        client.update_run(logger.run_id, status="RUNNING")
    ids["mlflow"] = str(logger.run_id)


@contextlib.contextmanager
def _refusal(name: str) -> Iterator[None]:
    """Tell the user why a logger cannot start."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if name not in _HELP:
            raise
        reason = shortened(in_one_line(error))
        raise UserError(
            f"--run.loggers: {name} could not be started ({reason}). {_HELP[name]}"
        ) from error


def _read_ids(directory: Path) -> dict[str, str]:
    """The ids that the stage had before it was resumed."""
    try:
        with (directory / IDS).open("rb") as file:
            content = json.loads(file.read(_LARGEST))
        return {name: found for name, found in content.items() if _ID.fullmatch(found)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        _log.warning(
            "%s is damaged (%s), so W&B and MLflow begin a new run.",
            directory / IDS,
            shortened(in_one_line(error)),
        )
        return {}


@rank_zero_only
def _write_ids(directory: Path, ids: Mapping[str, str]) -> None:
    if not ids:
        (directory / IDS).unlink(missing_ok=True)
        return
    with replaced(directory / IDS) as aside:
        aside.write_text(json.dumps(dict(ids)) + "\n")
