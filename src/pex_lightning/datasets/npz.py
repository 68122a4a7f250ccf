"""NumPy archives (`.npz`) of arrays with the names of D4RL's layout."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pex_lightning.errors import UserError, in_one_line, shortened

MOST_COMPRESSED = 1_100
"""Deflate compresses at most 1,032 to 1; a little is left for a file's structure."""

_SMALL = 2**20
_SUFFIX = ".npy"


class NpzFile:
    """A NumPy archive, with the part of `Hdf5File` that readers use; nothing in it is executed.

    Args:
        path: The file, for messages.
        archive: The archive.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive

    def names(self) -> list[str]:
        """Names of the arrays."""
        found = (entry.filename for entry in self._archive.infolist())
        return [name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)]

    def attribute(self, name: str) -> None:
        """Return None: there are no attributes."""

    def arrays(self, paths: Sequence[str]) -> list[np.ndarray | str]:
        """The array of each name, or `nothing`.

        Raises:
            UserError: An array cannot be read, or claims to be larger than the file can hold.
        """
        names = set(self.names())
        return [self._array(path) if path in names else "nothing" for path in paths]

    def _array(self, name: str) -> np.ndarray:
        entry = self._archive.getinfo(f"{name}{_SUFFIX}")
        if entry.file_size > MOST_COMPRESSED * entry.compress_size + _SMALL:
            raise UserError(
                f"{self.path}: '{name}' claims {entry.file_size:,} bytes, but the file holds "
                f"{entry.compress_size:,} bytes of it. The file is damaged."
            )
        try:
            with self._archive.open(entry) as file:
                array: Any = np.lib.format.read_array(file, allow_pickle=False)
                return np.asarray(array)
        except Exception as error:
            raise UserError(
                f"{self.path}: '{name}' cannot be read ({shortened(in_one_line(error))}). Expected "
                "an array of numbers; the file is damaged, or holds Python objects."
            ) from error


def is_npz(path: Path) -> bool:
    """Whether a file is a zip archive of arrays."""
    # Damaged archives end in exceptions of many types.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        return any(name.endswith(_SUFFIX) for name in archive.namelist())
    return False


@contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """Open a NumPy archive for reading.

    Raises:
        UserError: It cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:
        raise UserError(f"{path} cannot be read ({in_one_line(error)}).") from error
    with archive:
        yield NpzFile(path, archive)
