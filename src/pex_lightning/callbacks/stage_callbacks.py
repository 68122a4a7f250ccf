"""The callbacks and loggers of a stage, for the command line and for Python alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers.logger import Logger

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.diagnostics import DiagnosticsSummary
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.callbacks.failure_signs import FailureSigns
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.loggers import LoggedStage, LoggerName, start_loggers
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.progress import RunProgressBar
from pex_lightning.callbacks.stage_length import evaluation_interval
from pex_lightning.callbacks.status import StatusFile
from pex_lightning.data.description import DataDescription
from pex_lightning.data.offline import OfflineData
from pex_lightning.handover import Checkpoint


def stage_callbacks(
    directory: Path,
    stage: str,
    settings: EvaluationSettings,
    data: OfflineData,
    *,
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
        data: The stage's data.
        seed: The run's seed, from which that of evaluations is derived unless it is set.
        save_every: Gradient steps between two `last.ckpt`.
        interrupt: Stops on signals.
        progress: Whether a bar or lines show progress.
        place: The stage's number among those of the run, and how many these are.
    """
    evaluation = Evaluation(
        episodes=settings.episodes,
        every=evaluation_interval(data, settings),
        seed=settings.first_seed(seed),
        num_envs=settings.num_envs,
        interrupt=interrupt,
        members=settings.members,
    )
    metrics = TrainMetrics(evaluation)
    signs = FailureSigns(metrics, evaluation)
    callbacks: list[Callback] = [interrupt, evaluation, metrics, signs]
    if data.steps_environment:
        callbacks.append(DiagnosticsSummary(directory, metrics, evaluation, signs))
    if progress:
        callbacks.append(RunProgressBar(stage, evaluation, *place))
    callbacks.append(StatusFile(directory, evaluation))
    callbacks.append(RunCheckpoint(directory / "checkpoints", save_every, evaluation))
    return callbacks


def stage_loggers(
    names: Sequence[LoggerName],
    root: Path,
    run: str,
    stage: str,
    data: DataDescription,
    resume: Checkpoint | None = None,
    configured: Any = None,
) -> list[Logger]:
    """Loggers by name, then those that the user configured.

    Args:
        names: As for `--run.loggers`.
        root: Folder of all runs.
        run: The run's name.
        stage: `offline` or `online`.
        data: What the stage learns from.
        resume: The checkpoint from which it goes on.
        configured: The Trainer's argument `logger`.
    """
    is_d4rl = data.d4rl_score()
    dataset = {
        "dataset": data.dataset,
        "fingerprint": data.fingerprint,
        "env": data.env.id,
        "d4rl_score": "unknown" if is_d4rl is None else str(is_d4rl).lower(),
    }
    header = None if resume is None else resume.header
    logged = LoggedStage(
        run=run,
        root=root,
        name=stage,
        directory=root / run / stage,
        dataset=dataset,
        resumed_at=None if header is None else (header.gradient_steps, header.env_steps),
    )
    loggers = start_loggers(names, logged)
    if configured is None or configured is True:
        return loggers
    own = configured if isinstance(configured, list) else [configured]
    for logger in own:
        logger.log_hyperparams(dataset)
    return [*loggers, *own]
