"""Columns of a dataset, in a file or in memory, read in blocks and checked while reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pex_lightning.errors import UserError

_BLOCK_BYTES = 2 * 2**20
_MAX_BLOCK_BYTES = 32 * 2**20


class StoredArray(Protocol):
    """An array in a file: its type there, its shape, and the parts that it is stored in."""

    dtype: np.dtype[Any]
    type_name: str
    shape: tuple[int, ...] | None
    chunks: tuple[int, ...] | None

    def read_rows(self, start: int, stop: int, into: np.ndarray) -> None:
        """Read rows `start` to `stop` into `[stop − start, …]` float32."""


@dataclass(frozen=True)
class Column:
    """One numeric array of a dataset, rows first.

    Attributes:
        source: File or dataset name, for error messages.
        key: The array's name, for error messages.
        values: [N, D], [N] or [N, 1], in a file or in memory.

    Raises:
        UserError: The array is not numeric.
    """

    source: str
    key: str
    values: StoredArray | np.ndarray

    def __post_init__(self) -> None:
        if self.values.dtype.kind not in "fiub":
            name = getattr(self.values, "type_name", self.values.dtype)
            raise UserError(
                f"{self.source}: '{self.key}' has type {name}, expected numbers (float32)."
            )

    def check_shape(self, *, matrix: bool) -> None:
        """Check the shape.

        Args:
            matrix: Whether [N, D] is expected; otherwise [N] or [N, 1].

        Raises:
            UserError: The shape is another one.
        """
        shape: tuple[int, ...] | None = self.values.shape
        if shape is None:
            fits = False
        elif matrix:
            fits = len(shape) == 2 and shape[1] > 0
        else:
            fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if not fits:
            expected = "[rows, size]" if matrix else "[rows]"
            found = "no values" if shape is None else f"shape {list(shape)}"
            raise UserError(f"{self.source}: '{self.key}' has {found}, expected {expected}.")

    @property
    def _shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] | None = self.values.shape
        assert shape is not None, "check_shape has not been called"
        return shape

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def width(self) -> int:
        """Numbers per row."""
        return math.prod(self._shape[1:])

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the array in blocks of rows.

        Yields:
            (first row, values [rows, width] float32); the next block overwrites these values.

        Raises:
            UserError: After the last block, if a value is NaN or infinite as float32.
        """
        size = min(self._block_rows(), max(1, _MAX_BLOCK_BYTES // (4 * self.width)))
        buffer = np.empty((size, *self._shape[1:]), dtype=np.float32)
        return self._blocks_of(buffer, size)

    def _blocks_of(self, into: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Read `size` rows at a time into `into`, which holds the whole array or one block."""
        whole = len(into) == len(self)
        bad_rows, first_bad = 0, -1
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            block = into[start:stop] if whole else into[: stop - start]
            self._read(start, stop, block)
            block = block.reshape(stop - start, self.width)
            yield start, block
            finite = np.isfinite(block)
            if not finite.all():
                bad = np.flatnonzero(~finite.all(axis=1))
                first_bad = start + int(bad[0]) if bad_rows == 0 else first_bad
                bad_rows += len(bad)
        if bad_rows:
            raise UserError(
                f"{self.source}: '{self.key}' has NaN or infinity in {bad_rows} of {len(self)} "
                f"rows, first in row {first_bad}. Remove or repair these rows."
            )

    def matrix(
        self, seen: Callable[[np.ndarray], None] | None = None, *, spare_rows: int = 0
    ) -> np.ndarray:
        """Read the whole array, [N + spare_rows, width] float32, with the checks of `blocks`.

        Args:
            seen: Called with each block of rows.
            spare_rows: Further rows, whose values are undefined.
        """
        rows = len(self) + spare_rows
        try:
            values = np.empty((rows, *self._shape[1:]), dtype=np.float32)
        except MemoryError as error:
            raise UserError(
                f"{self.source}: '{self.key}' has {len(self):,} rows of {self.width}, which do not "
                f"fit into memory. Give fewer rows, or a machine with more memory."
            ) from error
        for _, block in self._blocks_of(values[: len(self)], self._block_rows()):
            if seen is not None:
                seen(block)
        return values.reshape(rows, self.width)

    def vector(self) -> np.ndarray:
        """Read an [N] or [N, 1] array as [N] float32, with the checks of `blocks`."""
        values: np.ndarray = self.matrix()[:, 0]
        return values

    def flags(self) -> np.ndarray:
        """Read an [N] or [N, 1] array of flags as [N] bool.

        Raises:
            UserError: A value is neither 0 nor 1.
        """
        values = self.vector()
        bad = np.flatnonzero((values != 0) & (values != 1))
        if len(bad):
            raise UserError(
                f"{self.source}: '{self.key}' has {len(bad)} of {len(self)} values that are "
                f"neither false (0) nor true (1), first {values[bad[0]]:g} in row {bad[0]}."
            )
        flags: np.ndarray = values == 1
        return flags

    def _read(self, start: int, stop: int, into: np.ndarray) -> None:
        if isinstance(self.values, np.ndarray):
            # Values beyond float32's range become infinite, which the caller reports.
            with np.errstate(over="ignore"):
                into[:] = self.values[start:stop]
        else:
            self.values.read_rows(start, stop, into)

    def _block_rows(self) -> int:
        row_bytes = 4 * self.width
        rows = max(1, _BLOCK_BYTES // row_bytes)
        chunks = None if isinstance(self.values, np.ndarray) else self.values.chunks
        if chunks is not None:
            # Blocks of whole chunks, so that HDF5 decompresses each chunk only once.
            chunk = int(chunks[0])
            rows = chunk * max(1, rows // chunk)
        return max(1, min(rows, len(self)))
