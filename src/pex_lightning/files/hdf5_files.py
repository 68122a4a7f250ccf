"""HDF5 files that come to be complete or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from pex_lightning.files.atomic import written_aside


@contextlib.contextmanager
def written_hdf5(path: Path) -> Iterator[h5py.File]:
    """Build an HDF5 file in memory, and write it once it is complete.

    HDF5 itself crashes the process where a disk is full. The memory is that of the file as it will
    be on the disk, twice.

    Raises:
        UserError: The folder or the file cannot be written.
    """
    with written_aside(path) as aside:
        with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
        aside.write_bytes(image)
