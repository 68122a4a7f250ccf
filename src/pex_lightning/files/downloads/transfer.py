"""Transfer of a file from one address to a part file, with resuming and retries."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError

from pex_lightning.errors import UserError, shortened
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
PROGRESS = 16 * 2**10
"""New bytes after which a try counts as successful."""
LARGEST = 16 * 2**30
"""Most bytes of a file of unknown size; the largest of D4RL's has a few GB."""
_MOST_REDIRECTIONS = 10


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
        tries: Consecutive tries per address without `PROGRESS` new bytes.
        backoff: Seconds before the second try, doubled for each further one.
        slowest: Smallest acceptable speed in bytes per second, as a mean over `window`.
        window: Seconds.
    """

    connect: float = 10.0
    read: float = 30.0
    tries: int = 4
    backoff: float = 1.0
    slowest: float = 1_000.0
    window: float = 60.0


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
            tries = 1 if came >= furthest + PROGRESS else tries + 1
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
    answered = False
    try:
        with _ask(url, headers, (patience.connect, patience.read)) as response:
            answered = True
            try:
                answer = read_answer(url, response, source, offset)
            except TryAgainError:
                if response.status_code in (206, 416):
                    part.discard()
                raise
            _check_announced(answer, job)
            if offset and not answer.offset:
                _log.info("%s: the file changed or cannot be resumed: starting over", shown(url))
            _store(_blocks(response, patience), answer, job)
    except (requests.RequestException, HTTPError) as error:
        raise broken(error, part.size if answered else None) from error
    whole = answer.source.size
    if whole is not None and part.size != whole:
        raise TryAgainError(f"the connection ended after {part.size} of {whole} bytes")


class _Session(requests.Session):
    """A session that returns redirections, instead of reading their bodies without limit."""

    def resolve_redirects(
        self, *args: Any, **kwargs: Any
    ) -> Generator[requests.Response, None, None]:
        yield from ()


def _ask(url: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> requests.Response:
    """Send a request, follow redirections, and return the response with its body unread."""
    with _Session() as session:
        for _ in range(_MOST_REDIRECTIONS + 1):
            response = session.get(url, headers=headers, stream=True, timeout=timeout)
            target = session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            try:
                url = urljoin(url, target)
            except ValueError as error:
                raise NoFileError(f"it redirects to {shortened(target)!r}") from error
    raise NoFileError(f"it redirects more than {_MOST_REDIRECTIONS} times")


def _blocks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """Iterate over a body as it arrives.

    Raises:
        NoFileError: It arrives too slowly.
    """
    begin, came = time.monotonic(), 0
    # `iter_content` would wait for a whole block, however long its bytes take.
    while block := response.raw.read1(_BLOCK, decode_content=False):
        yield block
        came += len(block)
        seconds = time.monotonic() - begin
        if seconds >= patience.window:
            if came < patience.slowest * seconds:
                raise NoFileError(f"it is too slow: {came} bytes in {seconds:.0f} seconds")
            begin, came = time.monotonic(), 0


def _copy(path: Path, job: Job) -> None:
    if path.exists() and not path.is_file():
        raise NoFileError("it is not a file (taken for a local path)")
    try:
        origin = path.open("rb")
    except OSError as error:
        raise NoFileError(f"{error.strerror} (taken for a local path)") from error
    with origin:
        answer = Answer(Source(str(path), None, path.stat().st_size), 0)
        _check_announced(answer, job)
        _store(iter(lambda: origin.read(2**20), b""), answer, job)


def _store(blocks: Iterable[bytes], answer: Answer, job: Job) -> None:
    """Write blocks to the part file.

    Raises:
        WrongBytesError: They are more than the file has; the part file is deleted.
    """
    part, size = job.part, answer.offset
    sizes = (answer.source.size, job.expected.size, LARGEST)
    most = next(most for most in sizes if most is not None)
    with (
        part.resume() if answer.offset else part.start(answer.source) as file,
        progress_bar(
            part.target.name,
            total=answer.source.size,
            show=job.progress,
            initial=answer.offset,
            unit="B",
            unit_scale=True,
        ) as bar,
    ):
        for block in blocks:
            size += len(block)
            if size > most:
                part.discard()
                raise WrongBytesError(f"more than {most} bytes came")
            file.write(block)
            bar.update(len(block))


def check_size(size: int | None, expected: Expected) -> None:
    """Compare sizes if both are known.

    Raises:
        WrongBytesError: The sizes differ.
    """
    if None not in (size, expected.size) and size != expected.size:
        raise WrongBytesError(f"{size} bytes, expected {expected.size}")


def _check_announced(answer: Answer, job: Job) -> None:
    """Check the announced size before any bytes are read.

    Raises:
        NoFileError: It is wrong, or nobody but this address says that a file of that size, which
            does not fit onto the disk, is right.
        UserError: There is not enough disk space.
    """
    size, part = answer.source.size, job.part
    if size is None:
        return
    check_size(size, job.expected)
    if size > LARGEST:
        raise WrongBytesError(f"{size} bytes, expected at most {LARGEST}")
    # A transfer from the beginning replaces the received bytes.
    room = shutil.disk_usage(part.target.parent).free + (0 if answer.offset else part.size)
    needed = size - answer.offset
    if needed > room:
        problem = (
            f"{needed / 1e6:.1f} MB are needed and {room / 1e6:.1f} MB are free on that disk. Make "
            "room, or choose another folder with --cache_dir."
        )
        if job.expected.size is None:
            raise NoFileError(problem)
        raise UserError(f"{part.target}: {problem}")
