"""The callbacks and loggers of a stage, for the command line and for Python alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.callbacks.diagnostics import DiagnosticsSummary
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.callbacks.failure_signs import FailureSigns
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.progress import RunProgressBar
from pex_lightning.callbacks.status import StatusFile
from pex_lightning.data.description import DataDescription
from pex_lightning.seeding import derive_seed


def stage_callbacks(
    directory: Path,
    stage: str,
    settings: EvaluationSettings,
    *,
    acts: bool,
    seed: int,
    save_every: int,
    interrupt: GracefulInterrupt,
    progress: bool = True,
    place: tuple[int, int] = (1, 1),
) -> list[Callback]:
    """What evaluates, logs, shows and saves a stage.

    Args:
        directory: The stage's folder.
        stage: `offline` or `online`.
        settings: How the policy is evaluated.
        acts: Whether the stage steps an environment.
        seed: The run's seed, from which that of evaluations is derived unless it is set.
        save_every: Gradient steps between two `last.ckpt`.
        interrupt: Stops on signals.
        progress: Whether a bar or lines show progress.
        place: The stage's number among those of the run, and how many these are.
    """
    evaluation = Evaluation(
        episodes=settings.episodes,
        every=settings.every,
        seed=derive_seed("evaluation", seed) % 2**31 if settings.seed is None else settings.seed,
        num_envs=settings.num_envs,
        interrupt=interrupt,
        members=settings.members,
    )
    metrics = TrainMetrics(evaluation)
    signs = FailureSigns(metrics, evaluation)
    callbacks: list[Callback] = [interrupt, evaluation, metrics, signs]
    if acts:
        callbacks.append(DiagnosticsSummary(directory, metrics, evaluation, signs))
    if progress:
        callbacks.append(RunProgressBar(stage, evaluation, *place))
    callbacks.append(StatusFile(directory, evaluation))
    callbacks.append(RunCheckpoint(directory / "checkpoints", save_every, evaluation))
    return callbacks


def stage_loggers(
    directory: Path, data: DataDescription, resume_step: int = 0, configured: Any = None
) -> list[Logger] | bool:
    """Ours, then those that the user configured; none where they said `false`.

    Args:
        directory: The stage's folder.
        data: What the stage learns from.
        resume_step: The gradient step from which it goes on.
        configured: The Trainer's argument `logger`.
    """
    if configured is False:
        return False
    is_d4rl = data.d4rl_score()
    dataset = {
        "dataset": data.dataset,
        "fingerprint": data.fingerprint,
        "env": data.env.id,
        "d4rl_score": "unknown" if is_d4rl is None else str(is_d4rl).lower(),
    }
    loggers: list[Logger] = [
        MetricsCSV(directory, resume_step, dataset),
        TensorBoardLogger(str(directory), name="", version="", purge_step=resume_step or None),
    ]
    if configured is not None and configured is not True:
        loggers += configured if isinstance(configured, list) else [configured]
    for logger in loggers:
        logger.log_hyperparams(dataset)
    return loggers
