"""Checkpoints that are whole or absent, with the replay buffer that belongs to them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.stage_data import stage_data
from pex_lightning.errors import UserError
from pex_lightning.files.atomic import remove_leftovers, replaced
from pex_lightning.files.torch_files import save
from pex_lightning.handover import read_checkpoint
from pex_lightning.replay.store import read_manifest, remove_unlisted

_log = logging.getLogger(__name__)

LAST = "last.ckpt"
BEST = "best.ckpt"


class _Beside(TorchCheckpointIO):
    """Writes to the given path; Lightning's takes a way over the system's temporary folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint to a local file; `storage_options` are for other places."""
        save(checkpoint, Path(path))


class RunCheckpoint(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt`, each resumable.

    Both are written aside and renamed, after the part of the replay buffer that they need; what
    no checkpoint needs any more is removed last. A process killed at any moment leaves the
    previous checkpoint whole.

    Args:
        directory: Where checkpoints lie.
        every: Gradient steps between two `last.ckpt`.
        evaluation: Says which policy is the best.
    """

    def __init__(self, directory: Path, every: int, evaluation: Evaluation) -> None:
        self._directory = directory
        self._every = every
        self._evaluation = evaluation
        self._best_score: float | None = None
        self._best_at: int | None = None
        self._saved_at: int | None = None
        self._files: dict[str, set[str]] = {}

    @property
    def last(self) -> Path:
        """The latest checkpoint."""
        return self._directory / LAST

    @property
    def best(self) -> Path:
        """The checkpoint with the best evaluation so far."""
        return self._directory / BEST

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write checkpoints where they belong at once, unless the user has a plugin that does."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = _Beside()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know which files the checkpoints that are there need; the start may stay the best."""
        rank = trainer.global_rank
        for path in (self.last, self.best):
            if path.exists():
                self._files[path.name] = _replay_files(path, rank)
            if trainer.is_global_zero:
                remove_leftovers(path)
        self._saved_at = trainer.global_step or None
        if not self.best.exists():
            # A new run, or one that goes on in another folder.
            self._best_score = self._best_at = None
        self._save_if_best(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save what is due, after the evaluation of this step."""
        self._save_if_best(trainer)
        if trainer.global_step // self._every != (self._saved_at or 0) // self._every:
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what training ended with, finished or interrupted."""
        self._save_if_best(trainer)
        if self._saved_at != trainer.global_step:
            self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self._best_score, "best_at": self._best_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self._best_score = state_dict["best_score"]
        self._best_at = state_dict["best_at"]

    def _save_last(self, trainer: Trainer) -> None:
        self._save(trainer, self.last)
        self._saved_at = trainer.global_step

    def _save_if_best(self, trainer: Trainer) -> None:
        metrics = self._evaluation.latest
        score = metrics.get("eval/score", metrics.get("eval/return"))
        if self._evaluation.evaluated_at != trainer.global_step:
            return
        if score is None or math.isnan(score) or self._best_at == trainer.global_step:
            return
        # Of equally good ones the later, which has learnt from more.
        if self._best_score is not None and score < self._best_score:
            return
        self._best_score, self._best_at = score, trainer.global_step
        self._save(trainer, self.best)

    def _save(self, trainer: Trainer, path: Path) -> None:
        _check_finite(trainer, path)
        replay = self._directory / "replay"
        self._files[path.name] = stage_data(trainer).save_replay(replay)
        self._directory.mkdir(parents=True, exist_ok=True)
        # The others only take part; the first process writes.
        with replaced(path) if trainer.is_global_zero else nullcontext(path) as aside:
            trainer.save_checkpoint(aside)
        trainer.strategy.barrier("checkpoint")
        listed = set().union(*self._files.values())
        remove_unlisted(replay / f"rank-{trainer.global_rank}", listed)


def _check_finite(trainer: Trainer, path: Path) -> None:
    """Refuse to put parameters that are not finite in the place of a checkpoint.

    Raises:
        UserError: Names the first of them, and what can be resumed from.
    """
    for name, value in trainer.lightning_module.state_dict().items():
        if not torch.isfinite(value).all():
            known = [path, *(path.with_name(file) for file in (LAST, BEST))]
            kept = next((file for file in known if file.exists()), None)
            go_on = "Start again with" if kept is None else f"Go on with --ckpt_path {kept} and"
            raise UserError(
                f"training has diverged: {name} is not finite at update {trainer.global_step:,}, "
                f"so {path} is not written. {go_on} a smaller --model.learning_rate or a "
                "--model.gradient_clip_val, or scale rewards and observations."
            )


def _replay_files(path: Path, rank: int) -> set[str]:
    """Names of the replay files that an existing checkpoint of an online run needs."""
    try:
        state = read_checkpoint(path).data_state
        if not isinstance(state, Mapping) or not state.get("replay"):
            return set()
        manifest = read_manifest(state, path)
    except UserError as error:
        _log.warning("%s It is left as it is until it is written anew.", error)
        return set()
    return {segment.file for segment in manifest[rank]} if rank < len(manifest) else set()
