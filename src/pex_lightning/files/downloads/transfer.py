"""Transfer of a file from one address to a part file, with resuming and retries."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import requests
from tqdm import tqdm

from pex_lightning.errors import UserError
from pex_lightning.files.downloads.http_answer import (
    Answer,
    NoFileError,
    TryAgainError,
    WrongBytesError,
    broken,
    read_answer,
)
from pex_lightning.files.downloads.mirrors import local_path, shown
from pex_lightning.files.downloads.part_file import PartFile, Source
from pex_lightning.files.progress import progress_bar
from pex_lightning.version import __version__

_log = logging.getLogger(__name__)
# Small, because an interrupted connection loses its current block.
_BLOCK = 64 * 2**10


@dataclass(frozen=True)
class Expected:
    """Known properties of a file to download.

    Attributes:
        size: Size in bytes; None if unknown.
        sha256: SHA-256, hexadecimal; None if unknown.
    """

    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try.

    Attributes:
        connect: Seconds to wait for a connection.
        read: Seconds to wait for the next bytes.
        tries: Consecutive tries per address without new bytes.
        backoff: Seconds before the second try, doubled for each further one.
    """

    connect: float = 10.0
    read: float = 30.0
    tries: int = 4
    backoff: float = 1.0


USUAL_PATIENCE = Patience()


@dataclass(frozen=True)
class Job:
    """Settings of a download that are the same for all addresses.

    Attributes:
        part: The part file to write to.
        expected: Known properties of the file.
        patience: How long to wait, and how often to try.
        progress: Whether to show progress on stderr.
    """

    part: PartFile
    expected: Expected
    patience: Patience
    progress: bool


def transfer(url: str, job: Job) -> None:
    """Transfer all bytes of `url` to the part file, with retries.

    Raises:
        NoFileError: The file cannot be downloaded from this address.
        UserError: There is not enough disk space.
        OSError: The file cannot be written.
    """
    local = local_path(url)
    if local is not None:
        _copy(local, job)
        return
    tries, furthest = 0, resumable(url, job.part)
    while True:
        try:
            _receive(url, job)
            return
        except TryAgainError as failure:
            came = job.part.size
            tries = 1 if came > furthest else tries + 1
            furthest = max(came, furthest)
            if tries >= min(job.patience.tries, failure.tries):
                count = f", tried {tries} times" if tries > 1 else ""
                raise NoFileError(f"{failure}{count}") from failure
            _log.info("%s: %s; trying again", shown(url), failure)
            time.sleep(job.patience.backoff * 2 ** (tries - 1))


def resumable(url: str, part: PartFile) -> int:
    """Return how many bytes from the same address the part file holds."""
    source = part.source()
    return part.size if source is not None and source.url == shown(url) else 0


def _receive(url: str, job: Job) -> None:
    """Request the bytes that the part file lacks, and append them.

    Raises:
        TryAgainError: The transfer failed; received bytes are kept.
        NoFileError: The file cannot be downloaded from this address.
    """
    part, patience = job.part, job.patience
    offset, source = resumable(url, part), part.source()
    headers = {"Accept-Encoding": "identity", "User-Agent": f"pex-lightning/{__version__}"}
    if offset and source is not None:
        if offset == source.size:
            return
        headers |= {"Range": f"bytes={offset}-", "If-Range": str(source.validator)}
    else:
        source, offset = None, 0
    timeouts, answered = (patience.connect, patience.read), False
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            answered = True
            try:
                answer = read_answer(url, response, source, offset)
            except TryAgainError:
                if response.status_code in (206, 416):
                    part.discard()
                raise
            check_size(answer.source.size, job.expected)
            _check_space(answer, part)
            if offset and not answer.offset:
                _log.info("%s: the file changed or cannot be resumed: starting over", shown(url))
            with _part_opened(answer, job) as (file, bar):
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except requests.RequestException as error:
        raise broken(error, part.size if answered else None) from error
    whole = answer.source.size
    if whole is not None and part.size != whole:
        raise TryAgainError(f"the connection ended after {part.size} of {whole} bytes")


def _copy(path: Path, job: Job) -> None:
    try:
        origin = path.open("rb")
    except OSError as error:
        raise NoFileError(f"{error.strerror} (taken for a local path)") from error
    with origin:
        size = path.stat().st_size
        check_size(size, job.expected)
        answer = Answer(Source(str(path), None, size), 0)
        _check_space(answer, job.part)
        with _part_opened(answer, job) as (file, bar):
            while block := origin.read(2**20):
                file.write(block)
                bar.update(len(block))


@contextmanager
def _part_opened(answer: Answer, job: Job) -> Iterator[tuple[BinaryIO, tqdm[Any]]]:
    part = job.part
    opened = part.resume() if answer.offset else part.start(answer.source)
    with (
        opened as file,
        progress_bar(
            part.target.name,
            total=answer.source.size,
            show=job.progress,
            initial=answer.offset,
            unit="B",
            unit_scale=True,
        ) as bar,
    ):
        yield file, bar


def check_size(size: int | None, expected: Expected) -> None:
    """Compare sizes if both are known.

    Raises:
        WrongBytesError: The sizes differ.
    """
    if None not in (size, expected.size) and size != expected.size:
        raise WrongBytesError(f"{size} bytes, expected {expected.size}")


def _check_space(answer: Answer, part: PartFile) -> None:
    if answer.source.size is None:
        return
    # A transfer from the beginning replaces the received bytes.
    room = shutil.disk_usage(part.target.parent).free + (0 if answer.offset else part.size)
    needed = answer.source.size - answer.offset
    if needed > room:
        raise UserError(
            f"{part.target}: {needed / 1e6:.1f} MB are needed and {room / 1e6:.1f} MB are free on "
            "that disk. Make room, or choose another folder with --cache_dir."
        )
