"""Writes that failed: which one it was, and where temporary files can lie."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from pex_lightning.errors import UserError

ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Numbers of errors that no reading meets."""


def failed_write(error: BaseException, folder: Path) -> OSError | None:
    """The failed write below `folder` that an error comes from, or None if it is another error.

    Libraries that clean up after it raise errors of their own, so the first one is looked for. The
    system names no file where a write fails, unlike where a file cannot be opened; such an error
    counts if only writing can meet it.
    """
    found: list[OSError] = []
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError):
            name = at.filename2 or at.filename
            inside = isinstance(name, str) and Path(name).is_relative_to(folder)
            if inside or at.errno in ONLY_WRITING:
                found.append(at)
        at = at.__context__
    named = [at for at in found if at.filename]
    return next(reversed(named or found), None)


def temporary_root() -> str:
    """The folder for temporary files.

    Raises:
        UserError: There is none.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UserError(
            "no folder for temporary files can be written: set the environment variable TMPDIR to "
            "one."
        ) from error
