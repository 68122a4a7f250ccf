"""Files that are none: pipes, devices and sockets, which may never end."""

from __future__ import annotations

from pathlib import Path

from pex_lightning.errors import UserError


def check_regular_file(path: Path) -> None:
    """Refuse what exists and is no file, before it is opened.

    Raises:
        UserError: It is a pipe, a device, a socket or a folder.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, a device or a socket"
        raise UserError(f"{path} is {kind}, expected a file.")
