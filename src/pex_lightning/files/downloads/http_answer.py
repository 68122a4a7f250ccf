"""Interpretation of a server's response to a request for a file or the rest of one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import requests
from urllib3.exceptions import HTTPError

from pex_lightning.errors import shortened
from pex_lightning.files.downloads.mirrors import shown
from pex_lightning.files.downloads.part_file import Source

_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_MANY = 1_000
# Of at most 15 digits, because `int` refuses thousands of them.
_SIZE = re.compile(r"[0-9]{1,15}")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


class NoFileError(Exception):
    """The file cannot be downloaded from this address; the message says why."""


class WrongBytesError(NoFileError):
    """The address has a different file."""

    def __init__(self, message: str) -> None:
        super().__init__(f"wrong bytes: {message}")


class TryAgainError(Exception):
    """The transfer failed, but another try at the same address may succeed.

    Attributes:
        tries: Largest sensible number of tries, an upper limit to `Patience.tries`.
    """

    def __init__(self, message: str, tries: int = _MANY) -> None:
        super().__init__(message)
        self.tries = tries


@dataclass(frozen=True)
class Answer:
    """The bytes that a response contains.

    Attributes:
        source: The version of the file that they belong to.
        offset: Position of the first byte in the file.
    """

    source: Source
    offset: int


def read_answer(
    url: str, response: requests.Response, source: Source | None, offset: int
) -> Answer:
    """Interpret status and headers of a response.

    Args:
        url: The requested address.
        response: The response.
        source: The version of the file whose rest was requested; None for the whole file.
        offset: Position at which that rest begins.

    Raises:
        NoFileError: The server does not have the file, or sends something else.
        TryAgainError: A temporary failure, or (206, 416) a mismatch with the received bytes.
    """
    _check_status(response)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise NoFileError(f"sends {encoding}-encoded bytes, which were not asked for")
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/html"):
        raise WrongBytesError("a web page, expected a file; is there a login page or a proxy?")
    if response.status_code == 206:
        size = None if source is None else _continues(response, source, offset)
        if source is None or size is None:
            raise TryAgainError("it sent another part of the file than was asked for")
        return Answer(replace(source, size=size), offset)
    length = response.headers.get("Content-Length")
    if length is not None and _SIZE.fullmatch(length) is None:
        raise NoFileError(f"it announces {shortened(length)!r} bytes, expected a number")
    size = None if length is None else int(length)
    return Answer(Source(shown(url), _validator(response), size), 0)


def broken(
    error: requests.RequestException | HTTPError, came: int | None
) -> NoFileError | TryAgainError:
    """Convert an exception of a transfer to one that says whether to try again.

    Args:
        error: The exception.
        came: Number of bytes received so far; None if there was no response.
    """
    if came is not None:
        return TryAgainError(f"the connection broke after {came} bytes ({_cause(error)})")
    if isinstance(error, requests.Timeout):
        # A second try would wait just as long.
        return TryAgainError("no connection: no answer in time", tries=1)
    if isinstance(error, requests.ConnectionError):
        return TryAgainError(_unconnected(error), tries=2)
    if isinstance(error, requests.exceptions.InvalidHeader):
        return NoFileError(f"its headers are not valid ({_cause(error)})")
    if isinstance(error, ValueError):
        return NoFileError("this is not an address; expected http://, https:// or a folder")
    return NoFileError(f"{type(error).__name__}: {error}")


def _unconnected(error: requests.ConnectionError) -> str:
    through = {
        requests.exceptions.SSLError: "no secure connection",
        requests.exceptions.ProxyError: "no connection through the proxy",
    }
    return f"{through.get(type(error), 'no connection')} ({_cause(error)})"


def _check_status(response: requests.Response) -> None:
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in (404, 410):
        raise NoFileError(f"the file is not there ({status})")
    if response.status_code == 416:
        raise TryAgainError(f"it has fewer bytes than are here already ({status})")
    if response.status_code in _RETRIED:
        raise TryAgainError(f"the server fails ({status})")
    if response.status_code not in (200, 206):
        raise NoFileError(f"the server refuses ({status})")


def _continues(response: requests.Response, source: Source, offset: int) -> int | None:
    """Return the size of the complete file; None if the response is not the requested rest."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, size = map(int, found.groups())
    fits = first == offset <= last < size and source.size in (None, size)
    return size if fits and _validator(response) in (None, source.validator) else None


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak ETag does not guarantee equal bytes.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _cause(error: BaseException) -> str:
    """Return the operating system's message from a chain of library exceptions."""
    found, current = str(error), error.__context__
    while current is not None:
        found = getattr(current, "strerror", None) or found
        current = current.__context__
    return shortened(found)
