"""Files that come to be complete or not at all: written aside, then renamed."""

from __future__ import annotations

import contextlib
import glob
import os
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pex_lightning.errors import UserError


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """As `replaced`, for a file that the user asked for: they are told why it cannot be written.

    Raises:
        UserError: The folder or the file cannot be written.
    """
    begun = False
    try:
        with replaced(path) as aside:
            begun = True
            yield aside
    except OSError as error:
        if begun:
            raise UserError(
                f"{path}: could not be written ({error.strerror or error}). Make space, or choose "
                "another folder."
            ) from error
        raise UserError(
            f"{path}: found that {path.parent} cannot be written to ({error.strerror}), expected a "
            "folder that exists and is writable"
        ) from error


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place on success and vanishes otherwise.

    What a process that was killed left of it, the next one that writes the same file removes.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    _remove_abandoned(path)
    prefix = f".{path.name}.{_machine()}-{os.getpid()}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
        # A private mode is right for a temporary file, not for the result.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        # The system names no file where a write fails, unlike where one cannot be opened, and the
        # user knows the file by its own name.
        if error.errno is not None and error.filename in (None, name):
            error.filename = str(path)
        raise
    finally:
        Path(name).unlink(missing_ok=True)


def _machine() -> str:
    """A name of this machine that is safe in file names."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended."""
    if sys.platform == "win32":
        return
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{_machine()}-*.*.part"):
        process = leftover.name.rsplit("-", 1)[1].partition(".")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):
            # Not of ours, or of a process of another user.
            continue


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it.

    Args:
        path: The file; its name may be a pattern as for `Path.glob`. No process may be writing it.
    """
    for pattern in (f".{path.name}.part", f".{path.name}.*.part"):
        for leftover in path.parent.glob(pattern):
            leftover.unlink(missing_ok=True)
