"""Download one file from the first of several addresses that has it: all of it, or nothing.

What came of a broken download stays in a part file and is resumed with `Range` and `If-Range`
(RFC 9110, sections 13.1.5 and 14.2): bytes are appended only if the server confirms by its ETag or
Last-Modified date that they belong to the same version of the file.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pex_lightning.errors import UserError
from pex_lightning.files.downloads.http_answer import NoFileError, WrongBytesError
from pex_lightning.files.downloads.mirrors import shown
from pex_lightning.files.downloads.part_file import PartFile
from pex_lightning.files.downloads.transfer import (
    USUAL_PATIENCE,
    Expected,
    Job,
    Patience,
    check_size,
    resumable,
    transfer,
)

_log = logging.getLogger(__name__)
NOTHING_KNOWN = Expected()


@dataclass(frozen=True)
class Downloaded:
    """A complete download.

    Attributes:
        url: Where it came from, without a user's name and password.
        size: Bytes.
        sha256: SHA-256 of the file, hexadecimal.
    """

    url: str
    size: int
    sha256: str


class DownloadError(UserError):
    """No address gave the file.

    Attributes:
        failures: (address, what went wrong there), in the order tried.
        kept: How much came and is resumed next time; None if nothing is.
    """

    def __init__(self, target: Path, failures: Sequence[tuple[str, str]], kept: str | None) -> None:
        self.failures = tuple(failures)
        self.kept = kept
        super().__init__(f"{target.name} could not be downloaded.\n{self.listing()}")

    def listing(self) -> str:
        """One indented line per address, and what is kept."""
        lines = [f"  {url}: {reason}" for url, reason in self.failures]
        if self.kept is not None:
            lines.append(f"{self.kept} came and are kept; the same command goes on from there.")
        return "\n".join(lines)


def download(
    urls: Iterable[str],
    target: Path,
    *,
    expected: Expected = NOTHING_KNOWN,
    inspect: Callable[[Path], str | None] | None = None,
    progress: bool = True,
    patience: Patience = USUAL_PATIENCE,
) -> Downloaded:
    """Download a file, resuming what an earlier call left.

    `target` appears only when it is complete, checked and on the disk; one that exists is replaced
    then. The caller holds `locks.locked(target)` if another process may want the same file.

    Args:
        urls: Addresses (http, https, file) or local paths of the file, tried in this order.
        target: Where to put it; its folder exists.
        expected: What is known of it.
        inspect: Says what is wrong with a complete download; None if nothing is.
        progress: Show progress on stderr.
        patience: How long to wait, and how often to try.

    Raises:
        DownloadError: No address gave the file; says why for each.
        UserError: It cannot be written: the disk is full, or the folder read-only.
    """
    part, failures = PartFile(target), []
    job = Job(part, expected, patience, progress)
    try:
        for url in urls:
            try:
                sha256 = _obtain(url, job, inspect)
            except NoFileError as failure:
                failures.append((shown(url), str(failure)))
                continue
            size = part.size
            part.finish()
            return Downloaded(shown(url), size, sha256)
    except KeyboardInterrupt:
        if part.source() is not None:
            _log.info("%s: %s came and are kept; the same command goes on", part.path, _bytes(part))
        raise
    except OSError as error:
        raise UserError(_disk_problem(error, part)) from error
    raise DownloadError(target, failures, None if part.source() is None else _bytes(part))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _obtain(url: str, job: Job, inspect: Callable[[Path], str | None] | None) -> str:
    """Have the whole file in the part file, checked; returns its SHA-256."""
    if resumable(url, job.part):
        try:
            transfer(url, job)
            return _check(job, inspect)
        except WrongBytesError as failure:
            # They may be those of a machine that lost power while it wrote.
            _log.info("%s: %s; starting over", job.part.path, failure)
    transfer(url, job)
    return _check(job, inspect)


def _check(job: Job, inspect: Callable[[Path], str | None] | None) -> str:
    """The SHA-256 of a complete part file; wrong bytes are dropped."""
    part, expected = job.part, job.expected
    try:
        check_size(part.size, expected)
        problem = None if inspect is None else inspect(part.path)
        if problem is not None:
            raise WrongBytesError(problem)
        sha256 = file_sha256(part.path)
        if expected.sha256 not in (None, sha256):
            raise WrongBytesError(f"SHA-256 {sha256}, expected {expected.sha256}")
    except WrongBytesError:
        part.discard()
        raise
    return sha256


def _disk_problem(error: OSError, part: PartFile) -> str:
    kept = f" {_bytes(part)} are kept and resumed next time." if part.source() is not None else ""
    return (
        f"{part.target}: could not be written ({error.strerror or error}).{kept} Make room, or "
        "choose another folder that can be written to with --cache_dir."
    )


def _bytes(part: PartFile) -> str:
    return f"{part.size / 1e6:.1f} MB"
