"""What `fit` says when a run ends."""

from __future__ import annotations

import logging
import time

from pex_lightning.callbacks.run_summary import RunEnd, code_flags, run_summary
from pex_lightning.cli.stage import Stage, StageEnd
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint

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
        self._began = time.monotonic()
        self.given: list[Checkpoint] = []

    def is_finished(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint of the last stage leaves nothing to do; then say so."""
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
        module, data = self._main.module, self._main.data.describe()
        summed_up = RunEnd(
            self._main.directory,
            self._main.evaluation.episodes,
            time.monotonic() - self._began,
            None if self._offline is None else self._offline.directory,
            # An offline stage that was taken from another run has built no policy here.
            unfinished=module.acting_policy().unfinished if module.acts else None,
            code=code_flags(module, data.env.id),
        )
        for line in run_summary(summed_up.starting_from(self.given)):
            _log.info(line)
        return 0

    def stopped(self, end: StageEnd) -> int:
        """Say how to go on with a run that a signal has ended; return the exit code."""
        assert end.received is not None
        _log.info(
            "Stopped and saved. Go on with the same command and --ckpt_path last "
            "(results are in %s)",
            self._main.directory.parent,
        )
        return 128 + int(end.received)
