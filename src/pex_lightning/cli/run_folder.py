"""The folder of a run: it belongs to one run at a time, and what a run wrote can be deleted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.callbacks.checkpoint import BEST, LAST
from pex_lightning.errors import UserError
from pex_lightning.files.disk import temporary_root
from pex_lightning.files.locks import HeldError, owned

_SCRATCH = "PEX_LIGHTNING_SCRATCH"

_WRITTEN = (
    "config.yaml",
    "stage.json",
    "metrics.csv",
    "status.json",
    "loggers.json",
    "metrics-damaged-*.csv",
    "hparams.yaml",
    "events.out.tfevents.*",
    ".*.part",
    f"checkpoints/{LAST}",
    f"checkpoints/{BEST}",
    "checkpoints/.*.part",
    "checkpoints/replay/rank-*/rows-*.pt",
    "checkpoints/replay/rank-*/.*.part",
)
"""Files that a stage writes, as patterns below its folder."""


def last_of(
    given: str, flag: str = "--ckpt_path", stages: Sequence[str] = ("online", "offline")
) -> str:
    """The checkpoint that a flag names: the file itself, or the last one of a run's folder.

    Args:
        given: A file, or the folder of a run or of one of its stages.
        flag: The flag, for messages.
        stages: Which stages of a run count; the first that has a checkpoint.

    Raises:
        UserError: It is a folder without a checkpoint.
    """
    folder = Path(given)
    if not os.path.isdir(folder):
        return given
    places = [*(folder / stage / "checkpoints" for stage in stages), folder / "checkpoints", folder]
    for path in (place / name for place in places for name in (LAST, BEST)):
        if path.exists():
            return str(path)
    raise UserError(
        f"{flag} {given}: found a folder without a checkpoint of a run ({' or '.join(stages)}). "
        f"Give a checkpoint, or the folder of a run that has one."
    )


def delete_stage(directory: Path) -> None:
    """Delete what a stage wrote, and folders that are empty then; what others put there stays."""
    for pattern in _WRITTEN:
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
    replay = directory / "checkpoints" / "replay"
    for folder in (*replay.glob("rank-*"), replay, replay.parent, directory):
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def owned_by_this_run(directory: Path) -> Iterator[None]:
    """Be the only run that writes into a run's folder; its first process holds it for all.

    Raises:
        UserError: Another run does so already, or the folder cannot be written.
    """
    if not rank_zero_only(lambda: True)():
        yield
        return
    missing = [folder for folder in (directory, directory.parent) if not folder.exists()]
    try:
        with contextlib.ExitStack() as held:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                held.enter_context(owned(directory))
            except HeldError as error:
                raise UserError(
                    f"{directory} belongs to a run that is going on: {error}. Wait for it, end it, "
                    "or choose another --run.name."
                ) from error
            except OSError as error:
                raise UserError(
                    f"the results cannot be written to {directory}: {error.strerror}. Choose "
                    "another folder with --run.root."
                ) from error
            yield
    finally:
        # Nothing is left of a run that was refused before it wrote anything.
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder that all processes of a run share."""
    inherited = os.environ.get(_SCRATCH)
    if inherited is not None:
        yield inherited
        return
    with tempfile.TemporaryDirectory(dir=temporary_root(), prefix="pex-lightning-") as folder:
        os.environ[_SCRATCH] = folder
        try:
            yield folder
        finally:
            del os.environ[_SCRATCH]
