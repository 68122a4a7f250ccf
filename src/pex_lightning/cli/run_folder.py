"""The folder of a run belongs to one run at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.errors import UserError
from pex_lightning.files.locks import HeldError, owned


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
