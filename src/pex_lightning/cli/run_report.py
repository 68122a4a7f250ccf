"""What `fit` says when a run ends."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace

from pex_lightning.algorithms import Algorithm
from pex_lightning.algorithms.load import load_algorithm
from pex_lightning.callbacks.run_summary import RunEnd, code_flags, run_summary, scores_so_far
from pex_lightning.callbacks.stage_length import ended_by
from pex_lightning.cli.stage import Stage, StageEnd
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint
from pex_lightning.policies.member_entry import entries_of

_log = logging.getLogger(__name__)


class RunReport:
    """Says how a run has ended.

    Args:
        main: Its last stage.
        offline: The offline stage before it, if there is one.

    Attributes:
        given: The checkpoints of `--offline.ckpt_path`.
    """

    def __init__(self, main: Stage, offline: Stage | None) -> None:
        self._main = main
        self._offline = offline
        self.given: list[Checkpoint] = []

    def is_finished(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint of the last stage leaves nothing to do."""
        return checkpoint.header.gradient_steps >= self._main.max_steps

    def nothing_left(self, checkpoint: Checkpoint) -> int:
        """Sum up a run that has finished before; return the exit code.

        Args:
            checkpoint: Of its last stage. Of one in another folder nothing is summed up.
        """
        _log.info(
            "Nothing left to do: %s has %s of %s updates. A larger %s goes on.",
            checkpoint.path,
            f"{checkpoint.header.gradient_steps:,}",
            f"{self._main.max_steps:,}",
            ended_by(self._main.data, self._main.max_steps),
        )
        if checkpoint.path.resolve().parent == self._main.last.parent.resolve():
            module = self._main.module
            entries = entries_of(module.hparams.get("members") or [])
            code = {entry.name: entry.path for entry in entries if entry.outside}
            self._sum_up(load_algorithm(checkpoint, type(module), code))
        return 0

    def ended(self, end: StageEnd) -> int:
        """Sum up a run that no signal has ended; return the exit code.

        Raises:
            UserError: It left no checkpoint.
        """
        if not self._main.last.exists():
            raise UserError(
                f"training ended at {end.gradient_steps:,} of {self._main.max_steps:,} updates "
                "and left no checkpoint: a limit under --trainer (max_time, max_epochs, "
                "limit_train_batches) stopped it."
            )
        if end.early:
            _log.info(
                "Ended early, at %s of %s updates: a limit under --trainer or a callback asked "
                "for it. Go on with --ckpt_path last.",
                f"{end.gradient_steps:,}",
                f"{self._main.max_steps:,}",
            )
            return 0
        if self._main.trainer_args.get("fast_dev_run"):
            _log.info("Finished; nothing is kept of a run with --trainer.fast_dev_run.")
            return 0
        self._sum_up(self._main.module)
        return 0

    def stopped(self, stage: Stage, end: StageEnd) -> int:
        """Say how to go on with a run that a signal has ended; return the exit code.

        Args:
            stage: The stage that it was at.
            end: How that ended.
        """
        assert end.received is not None
        code = 128 + int(end.received)
        if stage.trainer_args.get("fast_dev_run"):
            _log.info("Stopped; nothing is kept of a run with --trainer.fast_dev_run.")
            return code
        run = stage.directory.parent
        _log.info(
            "Stopped and saved at %s of %s updates of the %s stage: %s",
            f"{end.gradient_steps:,}",
            f"{end.max_steps:,}",
            stage.name,
            run,
        )
        for line in scores_so_far(self._run_end(stage)):
            _log.info(line)
        # Not the same command, which may replace the run or give it another name.
        words = ["pex-lightning", "fit", "--config", str(run), "--ckpt_path", "last"]
        if stage.settings.overwrite:
            words += ["--run.overwrite", "false"]
        _log.info("Go on with\n  %s", shlex.join(words))
        return code

    def _sum_up(self, module: Algorithm) -> None:
        """Say what came of a finished run, from its module as it was at the end."""
        end = replace(
            self._run_end(self._main),
            # An offline stage that was taken from another run has built no policy here.
            unfinished=module.acting_policy().unfinished if module.acts else None,
            code=code_flags(module, self._main.data.describe().env.id),
        )
        for line in run_summary(end):
            _log.info(line)

    def _run_end(self, stage: Stage) -> RunEnd:
        before = self._offline if stage is self._main else None
        directory = None if before is None else before.directory
        end = RunEnd(stage.directory, stage.evaluation.episodes, directory)
        return end.starting_from(self.given) if stage is self._main else end
