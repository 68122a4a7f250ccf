"""The folder of a study: it belongs to one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import replaced
from pex_lightning.files.locks import HeldError, owned
from pex_lightning.studies.records import STUDY_FILE


@contextlib.contextmanager
def owned_by_this_study(folder: Path, configuration: str) -> Iterator[None]:
    """Be the only study that writes into a folder, and note its configuration in `study.yaml`.

    Args:
        folder: `<root>/<name>/`.
        configuration: The resolved configuration, YAML.

    Raises:
        UserError: Another process does so already, or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(owned(folder))
            with replaced(folder / STUDY_FILE) as aside:
                aside.write_text(configuration)
        except HeldError as error:
            raise UserError(
                f"{folder} belongs to a study that is going on: {error}. Wait for it, end it, or "
                "choose another --study.name."
            ) from error
        except OSError as error:
            raise UserError(
                f"the study cannot be written to {folder}: {error.strerror or error}. Choose "
                "another folder with --study.root."
            ) from error
        yield
