"""`pex-lightning fit`: trains one stage, or an offline stage and, after a hand-over, another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.algorithms import Algorithm
from pex_lightning.calls import limited
from pex_lightning.cli.console import sigterm_as_exit
from pex_lightning.cli.fit_help import full_help, perhaps_list_classes
from pex_lightning.cli.offline_reuse import forgotten, run_offline_stage
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.cli.parser import FitCLI, parse_fit
from pex_lightning.cli.provenance import recorded
from pex_lightning.cli.ranks import Ranks, is_started_by_us
from pex_lightning.cli.run_folder import delete_stage, last_of, owned_by_this_run, scratch
from pex_lightning.cli.run_report import RunReport
from pex_lightning.cli.settings import RunSettings
from pex_lightning.cli.stage import Stage, StageEnd
from pex_lightning.cli.stage_checks import check_stages
from pex_lightning.cli.thread_choice import ThreadStart
from pex_lightning.cli.threads import Threads
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint, check_hand_over, check_same_data, read_checkpoint
from pex_lightning.handover.checkpoint import Stage as StageName

_log = logging.getLogger(__name__)


def fit(argv: list[str], start: ThreadStart) -> int:
    """Train as the configuration describes; return the exit code.

    Args:
        argv: The arguments.
        start: What was decided about threads before torch was loaded.

    Raises:
        UserError: Something in the configuration, the data or a checkpoint is wrong.
    """
    if perhaps_list_classes(argv):
        return 0
    find_own_modules()
    cli = parse_fit(full_help(argv))
    with limited(cli.setting("run").env_timeout), Ranks() as ranks, forgotten():
        if cli.setting("trainer.fast_dev_run"):
            with scratch() as root:
                return Run(cli, ranks, start, root=root).fit()
        return Run(cli, ranks, start).fit()


class Run:
    """A run: its main stage and, if there is one, the offline stage before it."""

    def __init__(
        self, cli: FitCLI, ranks: Ranks, start: ThreadStart, root: str | None = None
    ) -> None:
        self._ranks, self._arguments = ranks, cli.arguments
        self._settings: RunSettings = cli.setting("run")
        if root is not None:
            self._settings = replace(self._settings, root=root)
        given: str | None = cli.setting("ckpt_path")
        self._ckpt_path = given if given in (None, "last") else last_of(given)
        paths: str | list[str] = cli.setting("offline.ckpt_path") or []
        paths = [paths] if isinstance(paths, str) else paths
        self._offline_ckpt_paths = [
            last_of(path, flag="--offline.ckpt_path", stages=("offline",)) for path in paths
        ]
        self._reuse: bool = cli.setting("offline.reuse") is not False
        self._main = self._stage(cli, cli.model, cli.trainer_args("trainer"))
        self._offline = self._offline_stage(cli)
        if self._offline is not None:
            self._main = replace(self._main, place=(2, 2))
        takes = self._offline is not None or bool(self._offline_ckpt_paths)
        resumes = self._ckpt_path is not None
        processes = check_stages(self._main, self._offline, given=takes, resumes=resumes)
        self._threads = Threads.of(self._settings, self._ckpt_path, start, processes)
        config = cli.resolved(self._threads.number)
        self._main = replace(self._main, config=config)
        if self._offline is not None:
            self._offline = replace(self._offline, config=config)
        self._report = RunReport(self._main, self._offline)

    @property
    def stages(self) -> list[Stage]:
        """The stages, in their order; the offline one only if this run is to train it."""
        return [self._main] if self._offline is None else [self._offline, self._main]

    def fit(self) -> int:
        """Run the stages that are left; return the exit code."""
        with self._threads.taken():
            return self._fit()

    def _fit(self) -> int:
        resumed, checkpoint = self._resume()
        self._refuse_to_overwrite(resumed, checkpoint)
        with owned_by_this_run(self._settings.directory):
            # The data come first, before anything is written and before other processes start.
            with sigterm_as_exit():
                self._main.data.prepare_data()
            self._main.data.setup()
            if resumed is not self._main:
                self._main.module.check_files(self._main.data.describe())
            if checkpoint is not None:
                check_same_data(checkpoint, self._main.data.describe())
            if (
                resumed is self._main
                and checkpoint is not None
                and self._report.is_finished(checkpoint)
            ):
                # A checkpoint that it began with need not be there any more.
                with suppress(UserError):
                    self._given_offline_checkpoints()
                return self._report.nothing_left(checkpoint)
            given = self._given_offline_checkpoints()
            goes_on = self._ckpt_path is not None
            with recorded(
                self._main, self._arguments, checkpoint, self._threads, goes_on=goes_on
            ) as attempt:
                attempt.exit_code = self._train(resumed, checkpoint, given)
            return attempt.exit_code

    def _train(
        self, resumed: Stage | None, checkpoint: Checkpoint | None, given: list[Checkpoint]
    ) -> int:
        """Run the stages that are left."""
        if checkpoint is None:
            self._delete_earlier_run()
        if self._main.module.takes and resumed is not self._main:
            if not given:
                before = self._finish_offline_stage(checkpoint)
                if isinstance(before, StageEnd):
                    assert self._offline is not None
                    return self._report.stopped(self._offline, before)
                given = [before]
            self._hand_over(given)
            checkpoint = None
        end = self._run_stage(self._main, checkpoint)
        if end.received is not None:
            return self._report.stopped(self._main, end)
        return self._report.ended(end)

    def _finish_offline_stage(self, resume: Checkpoint | None) -> Checkpoint | StageEnd:
        """Finish the offline stage; return its checkpoint, or its end if a signal stopped it."""
        assert self._offline is not None
        if resume is not None and resume.header.gradient_steps >= self._offline.max_steps:
            return resume
        end = self._run_stage(self._offline, resume)
        if end.received is not None:
            return end
        if end.early:
            raise UserError(
                f"the offline stage ended at {end.gradient_steps:,} of "
                f"{end.max_steps:,} updates, so nothing is handed over: a limit under "
                "--offline.trainer (max_time, max_epochs, limit_train_batches) or a callback "
                "stopped it. Lift it and go on with --ckpt_path last."
            )
        return read_checkpoint(self._offline.last)

    def _run_stage(self, stage: Stage, resume: Checkpoint | None) -> StageEnd:
        if stage.name != "offline":
            return stage.run(self._ranks, resume)
        root = Path(self._settings.root)
        return run_offline_stage(
            stage, self._ranks, resume, root=root, reuse=self._reuse, rows_of=self._main.data
        )

    def _hand_over(self, checkpoints: list[Checkpoint]) -> None:
        self._check_hand_over(checkpoints)
        self._main.module.hand_over(*checkpoints)
        for checkpoint in checkpoints:
            _log.info(
                "Hand-over from %s: %s updates on %s",
                checkpoint.path,
                f"{checkpoint.header.gradient_steps:,}",
                checkpoint.header.data.dataset,
            )

    def _given_offline_checkpoints(self) -> list[Checkpoint]:
        """Read and check the checkpoints of `--offline.ckpt_path`, if any are given."""
        checkpoints = [read_checkpoint(path) for path in self._offline_ckpt_paths]
        if checkpoints:
            self._check_hand_over(checkpoints)
        self._report.given = checkpoints
        return checkpoints

    def _check_hand_over(self, checkpoints: list[Checkpoint]) -> None:
        module = self._main.module
        for checkpoint in checkpoints:
            check_hand_over(checkpoint, self._main.data.describe(), module.takes, module.hparams)
        module.check_given(checkpoints)

    def _resume(self) -> tuple[Stage | None, Checkpoint | None]:
        """The stage that `--ckpt_path` continues, and its checkpoint."""
        if self._ckpt_path is None:
            return None, None
        stages = [self._main] if self._offline is None else [self._main, self._offline]
        if self._ckpt_path == "last":
            found = ((stage, stage.newest) for stage in stages)
            stage, path = next(((s, path) for s, path in found if path), (self._main, None))
            if path is None:
                # Also where nothing was written yet, so that a requeued job needs one command.
                _log.info(
                    "--ckpt_path last: %s has no checkpoint yet, the run starts from its beginning",
                    self._settings.directory,
                )
                return None, None
            checkpoint = read_checkpoint(path)
        else:
            checkpoint = read_checkpoint(self._ckpt_path)
            header = checkpoint.header
            fitting = [stage for stage in stages if stage.algorithm == header.algorithm]
            fitting.sort(key=lambda stage: stage.name != header.stage)
            stage = fitting[0] if fitting else self._main
        stage.check_resume(checkpoint)
        return stage, checkpoint

    def _refuse_to_overwrite(self, resumed: Stage | None, checkpoint: Checkpoint | None) -> None:
        """Refuse to overwrite the checkpoints of any stage other than the resumed one."""
        if is_started_by_us():
            # The first process has looked; an offline stage that it took is there by now.
            return
        directory = self._settings.directory
        if self._settings.overwrite:
            for flag, given in (
                ("--ckpt_path", checkpoint.path if checkpoint is not None else None),
                *(("--offline.ckpt_path", path) for path in self._offline_ckpt_paths),
            ):
                if given is not None and Path(given).resolve().is_relative_to(directory.resolve()):
                    raise UserError(
                        f"--run.overwrite would delete {directory} and {flag} {given} with it. "
                        "Choose another --run.name."
                    )
            return
        stages = self.stages
        written = stages if resumed is None else stages[stages.index(resumed) :]
        for stage in written:
            own = (
                stage is resumed
                and checkpoint is not None
                and checkpoint.path.resolve().parent == stage.last.parent.resolve()
            )
            if not own and any(stage.last.parent.glob("*.ckpt")):
                raise UserError(
                    f"{stage.directory} already holds a run. Go on with it by --ckpt_path last, "
                    "choose another --run.name, or replace it with --run.overwrite true."
                )

    @rank_zero_only
    def _delete_earlier_run(self) -> None:
        """If `--run.overwrite` is given, delete the stages of the earlier run in this folder."""
        if self._settings.overwrite:
            for name in ("offline", "online"):
                delete_stage(self._settings.directory / name)

    def _offline_stage(self, cli: FitCLI) -> Stage | None:
        module: Algorithm | None = cli.setting("offline.model")
        if module is None or self._offline_ckpt_paths:
            return None
        steps = cli.setting("offline.max_steps")
        if steps is None or steps < 1:
            raise UserError(
                f"--offline.max_steps is {steps}; give the number of gradient steps of the "
                "offline stage."
            )
        return replace(
            self._stage(cli, module, {**cli.trainer_args("offline.trainer"), "max_steps": steps}),
            name="offline",
            directory=self._settings.directory / "offline",
            data=self._main.data.offline_stage(),
            evaluation=cli.evaluation("offline"),
            flags="offline.trainer",
            place=(1, 2),
        )

    def _stage(self, cli: FitCLI, module: Algorithm, trainer_args: Mapping[str, Any]) -> Stage:
        if trainer_args["max_steps"] < 1:
            raise UserError(
                f"--trainer.max_steps is {trainer_args['max_steps']}; give the number of gradient "
                "steps, or for an online stage --data.max_env_steps."
            )
        name: StageName = "online" if cli.datamodule.steps_environment else "offline"
        return Stage(
            name=name,
            directory=self._settings.directory / name,
            module=module,
            data=cli.datamodule,
            trainer_args=trainer_args,
            seed=cli.seed(),
            evaluation=cli.evaluation(name),
            settings=self._settings,
            flags="trainer",
        )
