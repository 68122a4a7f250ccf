"""One process at a time makes a file; the others wait and then find it.

`filelock` does the locking. Where a file system has no locks, it can take a file for one, which
stays behind when its process is killed. Another machine could not tell that the process is gone
and would wait for ever, so a lease is taken there: its process renews it, and the others take it
over half a minute after it was last renewed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

_log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class HeldError(Exception):
    """Another process has the lock; the text says which, as far as it is known."""


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from making `target` meanwhile; waits for one that does.

    The lock ends with the process, however that ends. A file system without locks is not an error.

    Raises:
        OSError: The folder cannot be written to.
    """
    with _locked(target, wait=True):
        yield


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a folder, until the block or the process ends.

    Raises:
        HeldError: Another process does so already.
        OSError: The folder cannot be written to.
    """
    note = folder / ".owner"
    try:
        with _locked(folder / "run", wait=False):
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    except Timeout as error:
        try:
            raise HeldError(note.read_text()[:200]) from error
        except OSError:
            raise HeldError("another process") from error


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")


@contextlib.contextmanager
def _locked(target: Path, wait: bool) -> Iterator[None]:
    path = target.with_name(f".{target.name}.lock")
    # Where the system says that there is no such file, as in /proc, filelock would wait for ever.
    path.touch()
    lock: BaseFileLock = FileLock(path, fallback_to_soft=False)
    try:
        _acquire(lock, path, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        lease = target.with_name(f".{target.name}.lease")
        _log.warning(
            "%s: this file system has no locks; the file %s, which is renewed while it is in use, "
            "stands in for one",
            path.parent,
            lease.name,
        )
        lock = SoftFileLease(lease)
        _acquire(lock, lease, wait)
    try:
        yield
    finally:
        # While it is held: whoever waits sees that its file is gone, and makes a new one. Windows
        # does not remove a file that is open.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, wait: bool) -> None:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        _log.info("%s: another process is making or fetching it; waiting", path.parent)
        lock.acquire()
