"""Safe access to HDF5 files: links and external arrays are not followed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.file_kinds import what_it_is
from pex_lightning.errors import UserError


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a local HDF5 file for reading.

    Raises:
        UserError: The file is missing, a folder, not readable, not HDF5, or truncated; also if
            reading fails inside the `with` block.
    """
    _check_is_file(path)
    try:
        if not h5py.is_hdf5(path):
            raise UserError(
                f"{path} is not an HDF5 file ({path.stat().st_size:,} bytes), expected a D4RL "
                f"dataset (.hdf5). {what_it_is(path)}"
            )
        # No chunk cache: columns are read once, in whole chunks.
        with h5py.File(path, "r", rdcc_nbytes=0) as file:
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


def find_column(file: h5py.File, key: str, path: Path, *, matrix: bool) -> Column:
    """Find an array and check its shape.

    Args:
        file: The open file.
        key: The array's name, at the root of the file.
        path: The file's path, for error messages.
        matrix: Whether [N, D] is expected; otherwise [N] or [N, 1].

    Raises:
        UserError: It is not a numeric array of that shape, stored in this file.
    """
    # Links, external arrays and virtual arrays may read other files.
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
    column = Column(source=str(path), key=key, values=dataset)
    column.check_shape(matrix=matrix)
    return column
