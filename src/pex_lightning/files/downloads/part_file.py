"""Partial downloads: the bytes received so far, and their source.

`NAME.part` holds the first bytes of NAME. `NAME.part.json` describes their source; if it is missing
or the source has changed, no bytes are appended.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pex_lightning.files.atomic import written_aside

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One version of a file at one address.

    Attributes:
        url: The address, without user name and password.
        validator: A strong ETag or a Last-Modified date; None if the server sent neither, in which
            case the download cannot be resumed.
        size: Size of the complete file in bytes; None if unknown.
    """

    url: str
    validator: str | None
    size: int | None


class PartFile:
    """The first bytes of a file that is being downloaded.

    Args:
        target: Path of the complete file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Number of bytes received so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def source(self) -> Source | None:
        """Return the source of the bytes; None if the download cannot be resumed."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            source = Source(found["url"], found["validator"], found["size"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        types_fit = isinstance(source.url, str) and isinstance(source.size, int | None)
        # It is sent in a header, which has one line of printable characters.
        validator = source.validator
        sendable = isinstance(validator, str) and validator.isascii() and validator.isprintable()
        return source if types_fit and sendable and self.size > 0 else None

    def start(self, source: Source) -> BinaryIO:
        """Delete the received bytes and open the file for writing from the beginning."""
        # In this order, a process that is killed in between leaves a part file without a source.
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if source.validator is not None:
            with written_aside(self._note) as aside:
                aside.write_text(json.dumps(asdict(source)), encoding="utf-8")
        return self.resume()

    def resume(self) -> BinaryIO:
        """Open the file for appending."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Delete the received bytes."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Flush the bytes to disk and rename the file to the target, atomically."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)
