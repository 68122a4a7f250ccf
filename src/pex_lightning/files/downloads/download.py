"""Download of one file from the first of several addresses that has it.

An interrupted download stays in a part file and is resumed with `Range` and `If-Range` (RFC 9110,
sections 13.1.5 and 14.2): bytes are only appended if the server confirms by ETag or Last-Modified
date that they belong to the same version of the file.
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
        url: The address, without user name and password.
        size: Size in bytes.
        sha256: SHA-256 of the file, hexadecimal.
    """

    url: str
    size: int
    sha256: str


class DownloadError(UserError):
    """The file could not be downloaded from any address.

    Attributes:
        failures: (address, reason) in the order tried.
        kept: Amount of data kept for resuming, such as `1.5 MB`; None if there is none.
    """

    def __init__(self, target: Path, failures: Sequence[tuple[str, str]], kept: str | None) -> None:
        self.failures = tuple(failures)
        self.kept = kept
        super().__init__(f"{target.name} could not be downloaded.\n{self.listing()}")

    def listing(self) -> str:
        """Format the failures, one indented line per address, and the amount of kept data."""
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
    """Download a file, resuming an earlier interrupted download.

    `target` only appears, or is replaced, once the download is complete, verified and on disk. If
    other processes may download the same file, the caller must hold `locks.locked(target)`.

    Args:
        urls: Addresses (http, https, file) or local paths of the file, tried in this order.
        target: Path of the downloaded file, in an existing folder.
        expected: Known properties of the file.
        inspect: Describes what is wrong with a complete download; returns None if it is good.
        progress: Show progress on stderr.
        patience: How long to wait, and how often to try.

    Raises:
        DownloadError: The file could not be downloaded from any address.
        UserError: The file cannot be written.
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
    """Compute the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _obtain(url: str, job: Job, inspect: Callable[[Path], str | None] | None) -> str:
    """Transfer and check the complete part file; return its SHA-256."""
    if resumable(url, job.part):
        try:
            transfer(url, job)
            return _check(job, inspect)
        except WrongBytesError as failure:
            # Resumed bytes may have been corrupted by a power failure.
            _log.info("%s: %s; starting over", job.part.path, failure)
    transfer(url, job)
    return _check(job, inspect)


def _check(job: Job, inspect: Callable[[Path], str | None] | None) -> str:
    """Check a complete part file and return its SHA-256; delete wrong bytes."""
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
