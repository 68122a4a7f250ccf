"""Trains one stage from Python, as the command does."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers.logger import Logger

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.checkpoint import LAST
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.loggers import LoggerName
from pex_lightning.callbacks.messages import as_on_the_command_line
from pex_lightning.callbacks.run_summary import RunEnd, code_flags, run_summary
from pex_lightning.callbacks.stage_callbacks import stage_callbacks, stage_loggers
from pex_lightning.callbacks.stage_length import last_update
from pex_lightning.data.offline import OfflineData
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.handover.checkpoint import Checkpoint
from pex_lightning.handover.checkpoint import Stage as StageName
from pex_lightning.seeding import derive_seed

_log = logging.getLogger(__name__)


def train(
    module: Algorithm,
    data: OfflineData,
    folder: str | Path,
    *,
    max_steps: int,
    offline: str | Path | Sequence[str | Path] = (),
    evaluation: EvaluationSettings | None = None,
    save_every: int = 5_000,
    seed: int = 0,
    resume: bool = False,
    **trainer: Any,
) -> Path:
    """Train one stage with the evaluations, files and messages of `pex-lightning fit`.

    With the same settings the results are those of the command. The stage's results are in
    `folder`/`offline` or `folder`/`online`: `metrics.csv`, checkpoints, TensorBoard.

    Args:
        module: The method.
        data: Its data; `OnlineData` makes it an online stage.
        folder: The run's folder; both stages of a run share it.
        max_steps: Gradient steps; -1 where `data` says the environment steps instead.
        offline: The checkpoint, or checkpoints, that the method starts from; not needed for a
            resume.
        evaluation: How the policy is evaluated; by default as by the command.
        save_every: Gradient steps between two `last.ckpt`.
        seed: Of all random numbers.
        resume: Go on from the stage's `last.ckpt` if there is one.
        trainer: Further arguments of Lightning's Trainer.

    Returns:
        `last.ckpt` of the stage.

    Raises:
        UserError: A value is wrong, the folder holds such a stage already, or what was given does
            not fit together.
        KeyboardInterrupt: Ctrl-C ended the stage early; `last.ckpt` is saved.
        SystemExit: Another signal did, with 128 and its number as the code.
    """
    name: StageName = "online" if data.steps_environment else "offline"
    directory = Path(folder) / name
    last = directory / "checkpoints" / LAST
    before = read_checkpoint(last) if resume and last.exists() else None
    if before is None and any(last.parent.glob("*.ckpt")):
        raise UserError(
            f"{directory} already holds a run. Go on with it by resume=True, or give another "
            "folder."
        )
    settings = evaluation or EvaluationSettings()
    given = [offline] if isinstance(offline, str | Path) else list(offline)
    checkpoints = [read_checkpoint(path) for path in given]
    with as_on_the_command_line():
        if checkpoints and before is None:
            module.hand_over(*checkpoints)
        data.prepare_data()
        data.setup()
        last.parent.mkdir(parents=True, exist_ok=True)
        seed_everything(derive_seed("stage", seed, name) % 2**32, verbose=False)
        interrupt = GracefulInterrupt()
        callbacks = stage_callbacks(
            directory,
            name,
            settings,
            data,
            seed=seed,
            save_every=save_every,
            interrupt=interrupt,
            progress=trainer.get("enable_progress_bar") is not False,
        )
        own = trainer.pop("logger", None)
        loggers: list[Logger] = []
        if own is not False:
            names: tuple[LoggerName, ...] = ("csv", "tensorboard")
            run = Path(folder)
            loggers = stage_loggers(names, run.parent, run.name, name, data.describe(), before, own)
        used = Trainer(
            max_steps=last_update(data, max_steps),
            callbacks=[*trainer.pop("callbacks", ()), *callbacks],
            logger=loggers,
            default_root_dir=str(directory),
            enable_model_summary=trainer.pop("enable_model_summary", False),
            **trainer,
        )
        try:
            used.fit(
                module,
                datamodule=data,
                ckpt_path=None if before is None else str(last),
                weights_only=True,
            )
        except SystemExit as stop:
            # Lightning's answer to a KeyboardInterrupt; any other is the caller's own.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from stop
            raise
        if interrupt.received is not None:
            _log.info("Stopped and saved in %s. Go on with resume=True.", last)
            if interrupt.received == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + interrupt.received)
        if used.is_global_zero:
            _summarise(module, data, directory, settings, checkpoints)
    return last


def _summarise(
    module: Algorithm,
    data: OfflineData,
    directory: Path,
    settings: EvaluationSettings,
    checkpoints: Sequence[Checkpoint],
) -> None:
    end = RunEnd(
        directory,
        settings.episodes,
        unfinished=module.acting_policy().unfinished,
        code=code_flags(module, data.describe().env.id),
    ).starting_from(checkpoints)
    for line in run_summary(end):
        _log.info(line)
