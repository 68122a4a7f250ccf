"""Where datasets and compiled functions are kept."""

from __future__ import annotations

import os
from pathlib import Path

from pex_lightning.errors import UserError


def cache_path(kind: str, folder: str | Path | None = None) -> Path:
    """The folder for one kind of file; it need not exist.

    Args:
        kind: `made`, `d4rl` or `compiled`.
        folder: The user's choice. None takes `$XDG_CACHE_HOME/pex-lightning/<kind>`, with
            `~/.cache` where the variable is unset.
    """
    if folder is not None:
        return Path(folder).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or home("XDG_CACHE_HOME") / ".cache"
    return Path(root) / "pex-lightning" / kind


def home(instead: str) -> Path:
    """The user's home folder.

    Args:
        instead: The environment variable that makes it unnecessary here.

    Raises:
        UserError: There is none.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder to keep files in: set the environment variable "
            f"{instead}, or HOME, to a folder that can be written to."
        ) from error


def cache_folder(kind: str, folder: str | Path | None = None) -> Path:
    """As `cache_path`, and create the folder if it is absent.

    Raises:
        UserError: It cannot be created.
    """
    path = cache_path(kind, folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"dataset folder {path}: could not be created ({error.strerror}); set "
            "--cache_dir (--data.cache_dir of fit) or XDG_CACHE_HOME to one that can be written to."
        ) from error
    return path
