"""Runs an offline stage, or takes the one that another run under the same root has finished."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer

import pex_lightning
from pex_lightning.cli.ranks import Ranks, is_started_by_us
from pex_lightning.cli.stage import Stage, StageEnd
from pex_lightning.data.offline import OfflineData
from pex_lightning.handover import Checkpoint
from pex_lightning.handover.checkpoint import CHECKPOINT_FORMAT
from pex_lightning.handover.kept_stages import KeptStage
from pex_lightning.version import __version__

_TAKEN = "PEX_LIGHTNING_OFFLINE_STAGE_TAKEN"
_ONLINE_ALONE = "every_env_steps"
"""A setting of evaluations that counts only where an environment is stepped."""
_WITHOUT_EFFECT = {
    "default_root_dir",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "fast_dev_run",
    "log_every_n_steps",
    "logger",
}
"""Arguments of the Trainer that do not change what is learnt."""
_SEEN_IN_THE_TRAINER = {"accelerator", "devices", "num_nodes", "precision", "strategy"}
"""Arguments of the Trainer of which what it makes of them counts, such as of `auto`."""


def run_offline_stage(
    stage: Stage,
    ranks: Ranks,
    resume: Checkpoint | None,
    *,
    root: Path,
    reuse: bool,
    rows_of: OfflineData,
) -> StageEnd:
    """Train an offline stage, unless a run under `root` has finished the very same one.

    Args:
        stage: The stage.
        ranks: The processes of the run.
        resume: What to go on from.
        root: Folder of all runs.
        reuse: Whether a finished one may be taken.
        rows_of: The data module of the run, whose dataset the stage learns from.

    Returns:
        How it ended; a stage that was taken counts as finished.

    Raises:
        UserError: As for `Stage.run`; or the folder of kept stages cannot be written.
    """
    finished = StageEnd(None, stage.max_steps, stage.max_steps)
    if is_started_by_us():
        # The first process has decided, before it started this one.
        taken = os.environ.get(_TAKEN) == str(stage.directory)
        return finished if taken else stage.run(ranks, resume)
    stage.data.setup()
    kept = _kept(stage, rows_of, root)
    if kept is None:
        return stage.run(ranks, resume)
    with kept.held():
        if resume is None and reuse and kept.take(stage.directory, stage.max_steps) is not None:
            stage.prepare_directory()
            os.environ[_TAKEN] = str(stage.directory)
            return finished
        if resume is None:
            whole = True
            kept.begin(stage.directory)
        else:
            own = resume.path.resolve().parent == stage.last.parent.resolve()
            whole = kept.goes_on(stage.directory) and own
        end = stage.run(ranks, resume)
        if whole and end.received is None and not end.early:
            kept.keep(stage.directory)
        return end


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Let a decision for the processes of this run end with it."""
    try:
        yield
    finally:
        if not is_started_by_us():
            os.environ.pop(_TAKEN, None)


def _kept(stage: Stage, rows_of: OfflineData, root: Path) -> KeptStage | None:
    """The place of the stage, or None if its result depends on what cannot be compared."""
    trainer = stage.check_trainer()
    # Processes that others start decide at the same time, and cannot ask each other yet.
    if trainer.world_size > 1 and ("LOCAL_RANK" in os.environ or trainer.num_nodes > 1):
        return None
    arguments = stage.trainer_args
    own_code = any(
        not type(part).__module__.startswith("pex_lightning.")
        for part in (stage.module, stage.data, rows_of)
    )
    # Code of the user's may have changed under the same name.
    if own_code or arguments.get("fast_dev_run") or arguments.get("callbacks"):
        return None
    try:
        return KeptStage(root, depends_on(stage, trainer))
    except (TypeError, ValueError):
        return None


def depends_on(stage: Stage, trainer: Trainer) -> dict[str, Any]:
    """Everything that an offline stage's checkpoints and metrics depend on.

    Evaluations are a part of it: their interval is where chunks of batches end, and so decides
    which rows are drawn; the best checkpoint and the metrics come from them. A compiled update is
    equal up to rounding alone, so `compile_update` counts as well. The number of threads does not:
    a measurement chooses it, and may choose another one for the next run.

    Args:
        stage: The stage.
        trainer: One with its arguments.
    """
    data = stage.data
    arguments = {
        key: value
        for key, value in stage.trainer_args.items()
        if value is not None and key not in _WITHOUT_EFFECT | _SEEN_IN_THE_TRAINER
    }
    return {
        "algorithm": stage.algorithm,
        "hyper_parameters": dict(stage.module.hparams),
        "seed": stage.seed,
        "data": data.describe().to_dict(),
        "batch_size": data.batch_size,
        "chunk_size": data.chunk_size,
        "evaluation": {k: v for k, v in asdict(stage.evaluation).items() if k != _ONLINE_ALONE},
        "trainer": arguments,
        "precision": str(trainer.precision),
        "processes": trainer.world_size,
        "device": trainer.strategy.root_device.type,
        "torch": str(torch.__version__),
        "version": __version__,
        "checkpoint_format": CHECKPOINT_FORMAT,
        "code": _code(),
    }


def _code() -> str:
    """A digest of this package's own code, which tells states of a checkout apart."""
    folder = Path(pex_lightning.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
