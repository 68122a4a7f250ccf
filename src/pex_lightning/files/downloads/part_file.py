"""A file that is being downloaded: what came of it so far, where from.

`NAME.part` holds the first bytes of NAME; `NAME.part.json` says which bytes they are: without it,
or after a change at the source, nothing is ever appended to them.
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
        url: The address, without a user's name and password.
        validator: A strong ETag, or a Last-Modified date; None if the server gave neither, and
            what came cannot be resumed then.
        size: The whole file's size in bytes; None if the server did not say.
    """

    url: str
    validator: str | None
    size: int | None


class PartFile:
    """The first bytes of a file.

    Args:
        target: The file that it will become.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes here so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def source(self) -> Source | None:
        """Whose bytes they are; None if they cannot be resumed."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            source = Source(found["url"], found["validator"], found["size"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        types_fit = isinstance(source.url, str) and isinstance(source.size, int | None)
        if not types_fit or not isinstance(source.validator, str) or self.size == 0:
            return None
        return source

    def start(self, source: Source) -> BinaryIO:
        """Drop what is here and open for bytes from the beginning."""
        # In this order a process killed in between leaves bytes without a note: not resumable.
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if source.validator is not None:
            with written_aside(self._note) as aside:
                aside.write_text(json.dumps(asdict(source)), encoding="utf-8")
        return self.resume()

    def resume(self) -> BinaryIO:
        """Open for the bytes that come after those that are here."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Drop what is here."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Make it the file that it was meant to be, at once and on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)
