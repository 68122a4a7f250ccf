"""``pex-lightning fit``: one stage, or an offline stage, the hand-over and an online stage."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from pex_lightning.algorithms import PEX, Algorithm
from pex_lightning.cli.parser import FitCLI, parse_fit
from pex_lightning.cli.settings import RunSettings
from pex_lightning.cli.stage import Stage, StageName, refuse_to_overwrite
from pex_lightning.data.online import OnlineData
from pex_lightning.errors import UserError
from pex_lightning.handover import (
    Checkpoint,
    check_hand_over,
    read_checkpoint,
)

_log = logging.getLogger(__name__)


def fit(argv: list[str]) -> int:
    """Run what the configuration describes; returns the exit code.

    Raises:
        UserError: Something in the configuration, the data or a checkpoint is wrong.
    """
    cli = parse_fit(argv)
    if cli.setting("trainer.fast_dev_run"):
        with tempfile.TemporaryDirectory(prefix="pex-lightning-") as scratch:
            return _Run(cli, root=scratch).fit()
    return _Run(cli).fit()


class _Run:
    """The stages of one run."""

    def __init__(self, cli: FitCLI, root: str | None = None) -> None:
        self._settings: RunSettings = cli.setting("run")
        if root is not None:
            self._settings = replace(self._settings, root=root)
        self._ckpt_path: str | None = cli.setting("ckpt_path")
        self._offline_ckpt_path: str | None = cli.setting("offline.ckpt_path")
        self._main = self._stage(cli, cli.model, _arguments(cli, "trainer"))
        self._offline = self._offline_stage(cli)

    def fit(self) -> int:
        resumed, checkpoint = self._resume()
        if checkpoint is None:
            refuse_to_overwrite(self._settings.directory, self._settings.overwrite)
        elif resumed is self._main and self._finished(checkpoint):
            return 0
        # Before anything is written, and before other processes start.
        self._main.data.prepare_data()
        self._main.data.setup()
        if isinstance(self._main.module, PEX) and resumed is not self._main:
            received = self._offline_before(self._main.module, checkpoint)
            if received is not None:
                return self._stopped(received)
            checkpoint = None
        received = self._main.run(checkpoint)
        if received is not None:
            return self._stopped(received)
        _log.info("Finished. Evaluate with: pex-lightning test --ckpt_path %s", self._main.last)
        return 0

    def _offline_before(self, pex: PEX, resume: Checkpoint | None) -> Signals | None:
        """Finish the offline stage and give its result to ``pex``.

        Returns the signal that ended it early, if one did.
        """
        if self._offline_ckpt_path is not None:
            path = Path(self._offline_ckpt_path)
        elif self._offline is None:
            raise UserError(
                "PEX starts from an offline stage: give --offline.ckpt_path FILE, or describe "
                "one under `offline:` as conf/pointmaze.yaml does."
            )
        elif resume is not None and resume.header.gradient_steps >= self._offline.max_steps:
            path = resume.path
        else:
            path = self._offline.last
            received = self._offline.run(resume)
            if received is not None:
                return received
        checkpoint = read_checkpoint(path)
        check_hand_over(checkpoint, self._main.data.describe(), pex.hparams)
        pex.hand_over(checkpoint)
        _log.info(
            "Hand-over from %s: %s updates on %s",
            path,
            f"{checkpoint.header.gradient_steps:,}",
            checkpoint.header.data.dataset,
        )
        return None

    def _resume(self) -> tuple[Stage | None, Checkpoint | None]:
        """The stage that ``--ckpt_path`` continues, and its checkpoint."""
        if self._ckpt_path is None:
            return None, None
        stages = [self._main] if self._offline is None else [self._main, self._offline]
        if self._ckpt_path == "last":
            stage = next((stage for stage in stages if stage.last.exists()), None)
            if stage is None:
                raise UserError(
                    f"--ckpt_path last: {self._settings.directory} has no checkpoint to resume "
                    "from. Leave --ckpt_path out to start, or check --run.name and --run.root."
                )
            checkpoint = read_checkpoint(stage.last)
        else:
            checkpoint = read_checkpoint(self._ckpt_path)
            fitting = (s for s in stages if s.algorithm == checkpoint.header.algorithm)
            stage = next(fitting, self._main)
        stage.check_resume(checkpoint)
        return stage, checkpoint

    def _finished(self, checkpoint: Checkpoint) -> bool:
        done = checkpoint.header.gradient_steps
        if done < self._main.max_steps:
            return False
        _log.info(
            "Nothing left to do: %s has %s of %s updates. A larger --trainer.max_steps goes on.",
            checkpoint.path,
            f"{done:,}",
            f"{self._main.max_steps:,}",
        )
        return True

    def _stopped(self, received: Signals) -> int:
        _log.info(
            "Stopped and saved. Go on with the same command and --ckpt_path last "
            "(results are in %s)",
            self._settings.directory,
        )
        return 128 + int(received)

    def _offline_stage(self, cli: FitCLI) -> Stage | None:
        module: Algorithm | None = cli.setting("offline.model")
        if module is None or self._offline_ckpt_path is not None:
            return None
        steps = cli.setting("offline.max_steps")
        if steps is None or steps < 1:
            raise UserError(
                f"--offline.max_steps is {steps}; give the number of gradient steps of the "
                "offline stage."
            )
        arguments = {**_arguments(cli, "offline.trainer"), "max_steps": steps}
        if not isinstance(self._main.data, OnlineData):
            raise UserError(
                "an `offline` stage needs an online one after it, with data.class_path "
                "OnlineData; for IQL alone see conf/iql/."
            )
        stage = self._stage(cli, module, arguments)
        directory = self._settings.directory / "offline"
        data = self._main.data.offline_stage()
        every = cli.setting("offline.evaluate_every") or stage.evaluation.every
        evaluation = replace(stage.evaluation, every=every)
        return replace(stage, name="offline", directory=directory, data=data, evaluation=evaluation)

    def _stage(self, cli: FitCLI, module: Algorithm, trainer_args: Mapping[str, Any]) -> Stage:
        if trainer_args["max_steps"] < 1:
            raise UserError(
                f"--trainer.max_steps is {trainer_args['max_steps']}; give the number of gradient "
                "steps."
            )
        name: StageName = "online" if isinstance(cli.datamodule, OnlineData) else "offline"
        return Stage(
            name=name,
            directory=self._settings.directory / name,
            module=module,
            data=cli.datamodule,
            trainer_args=trainer_args,
            config=cli.resolved(),
            seed=cli.seed(),
            evaluation=cli.setting("evaluation"),
            save_every=self._settings.save_every,
        )


def _arguments(cli: FitCLI, key: str) -> dict[str, Any]:
    """A stage's Trainer arguments."""
    arguments: dict[str, Any] = cli.setting(key).as_dict()
    return arguments
