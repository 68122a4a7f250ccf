"""Columns of an HDF5 file, read in blocks, checked, and without running or following anything."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from pex_lightning.errors import UserError

_BLOCK_BYTES = 8 * 2**20
_MAX_BLOCK_BYTES = 32 * 2**20


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a local HDF5 file for reading.

    Raises:
        UserError: There is no such file, it is a folder, it may not be read, it is not HDF5, or it
            is cut short; also when reading from it fails inside the `with` block.
    """
    _check_is_file(path)
    try:
        if not h5py.is_hdf5(path):
            raise UserError(
                f"{path} is not an HDF5 file ({path.stat().st_size} bytes), expected a D4RL "
                f"dataset (.hdf5). A failed download leaves such files: download it again."
            )
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied.") from error
    except OSError as error:
        raise UserError(
            f"{path} is HDF5 but cannot be read to its end ({error}). It is cut short or damaged: "
            f"download it again."
        ) from error


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        files = sorted(entry.name for entry in path.glob("*.hdf5"))
        listed = f" It holds {', '.join(files[:8])}." if files else ""
        raise UserError(f"{path} is a folder, expected an HDF5 file.{listed}")
    if path.exists():
        return
    if not path.parent.is_dir():
        raise UserError(f"there is no file {path}: the folder {path.parent} does not exist.")
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=3)
    near = near or [name for name in names if name.endswith((".hdf5", ".h5"))][:8]
    listed = f"Near names there: {', '.join(near)}." if near else "It has no file of such a name."
    raise UserError(f"there is no file {path.name} in {path.parent}. {listed}")


@dataclass(frozen=True)
class Column:
    """One numeric array of a file, rows first.

    Attributes:
        path: The file; named in errors.
        key: The array's name in the file; named in errors.
        dataset: The array.
    """

    path: Path
    key: str
    dataset: h5py.Dataset

    @classmethod
    def find(cls, file: h5py.File, key: str, path: Path, *, matrix: bool) -> Column:
        """Look an array up.

        Args:
            file: The open file.
            key: The array's name, at the root of the file.
            path: The file's path, for errors.
            matrix: Whether [N, D] is expected; otherwise [N] or [N, 1].

        Raises:
            UserError: It is not a plain numeric array of that shape stored in this file.
        """
        # A link or an external or virtual array would read other files than the one given.
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise UserError(
                f"{path}: '{key}' is a link to another place, which is not followed. Copy the "
                f"array itself into the file."
            )
        dataset = file[key]
        if not isinstance(dataset, h5py.Dataset):
            raise UserError(f"{path}: '{key}' is a group, expected an array.")
        if dataset.external or dataset.is_virtual:
            raise UserError(
                f"{path}: '{key}' is stored in other files, which are not opened. Copy the array "
                f"itself into the file."
            )
        if dataset.dtype.kind not in "fiub":
            raise UserError(
                f"{path}: '{key}' has type {dataset.dtype}, expected numbers (float32)."
            )
        shape: tuple[int, ...] | None = dataset.shape
        if shape is None or not _shape_fits(shape, matrix=matrix):
            expected = "[rows, size]" if matrix else "[rows]"
            found = "no values" if shape is None else f"shape {list(shape)}"
            raise UserError(f"{path}: '{key}' has {found}, expected {expected}.")
        return cls(path=path, key=key, dataset=dataset)

    def __len__(self) -> int:
        return int(self.dataset.shape[0])

    @property
    def width(self) -> int:
        """Numbers per row."""
        return int(np.prod(self.dataset.shape[1:]))

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Go through the array from its first row to its last.

        Yields:
            (first row, values [rows, width] float32). The values are overwritten by the next block.

        Raises:
            UserError: After the last block, if a value is NaN or infinite as float32.
        """
        size = self._block_rows()
        buffer = np.empty((size, *self.dataset.shape[1:]), dtype=np.float32)
        bad_rows, first_bad = 0, -1
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            block = buffer[: stop - start]
            self.dataset.read_direct(block, np.s_[start:stop])
            block = block.reshape(stop - start, self.width)
            yield start, block
            finite = np.isfinite(block)
            if not finite.all():
                bad = np.flatnonzero(~finite.all(axis=1))
                first_bad = start + int(bad[0]) if bad_rows == 0 else first_bad
                bad_rows += len(bad)
        if bad_rows:
            raise UserError(
                f"{self.path}: '{self.key}' has NaN or infinity in {bad_rows} of {len(self)} rows, "
                f"first in row {first_bad}. Remove or repair these rows."
            )

    def vector(self) -> np.ndarray:
        """The whole of an [N] or [N, 1] array: [N] float32, checked like `blocks`."""
        values = np.empty(len(self), dtype=np.float32)
        for start, block in self.blocks():
            values[start : start + len(block)] = block[:, 0]
        return values

    def flags(self) -> np.ndarray:
        """The whole of an [N] or [N, 1] array of flags: [N] bool.

        Raises:
            UserError: A value is neither 0 nor 1.
        """
        values = self.vector()
        bad = np.flatnonzero((values != 0) & (values != 1))
        if len(bad):
            raise UserError(
                f"{self.path}: '{self.key}' has {len(bad)} of {len(self)} values that are neither "
                f"false (0) nor true (1), first {values[bad[0]]:g} in row {bad[0]}."
            )
        flags: np.ndarray = values == 1
        return flags

    def _block_rows(self) -> int:
        row_bytes = 4 * self.width
        rows = max(1, _BLOCK_BYTES // row_bytes)
        if self.dataset.chunks is not None:
            # Whole chunks, or every chunk would be decompressed once for each block it lies in.
            chunk = int(self.dataset.chunks[0])
            rows = chunk * max(1, rows // chunk)
        rows = min(rows, max(1, _MAX_BLOCK_BYTES // row_bytes))
        return max(1, min(rows, len(self)))


def _shape_fits(shape: tuple[int, ...], *, matrix: bool) -> bool:
    if matrix:
        return len(shape) == 2 and shape[1] > 0
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
