"""One process at a time makes a file; the others wait and then find it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from making `target` meanwhile; waits for one that does.

    The lock ends with the process, however that ends. A file system without locks is not an error.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = target.with_name(f".{target.name}.lock")
    handle = _acquire(path)
    try:
        yield
    finally:
        if handle is not None:
            # While it is held: whoever waits sees that its file is gone, and makes a new one.
            path.unlink(missing_ok=True)
            os.close(handle)


def _acquire(path: Path) -> int | None:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            if _is_at(handle, path):
                return handle
        except BaseException as error:
            os.close(handle)
            if not isinstance(error, OSError) or error.errno not in _NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            _log.warning(
                "%s: this file system has no locks; do not make or fetch a file twice at a time",
                path.parent,
            )
            return None
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file still has that name: who held the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _lock(handle: int, path: Path) -> None:
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "no locks")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.info("%s: another process is making or fetching it; waiting", path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
