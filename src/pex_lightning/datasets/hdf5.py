"""Safe access to HDF5 files: in a process of its own, and without following links."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pex_lightning.datasets import hdf5_process
from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.file_kinds import what_it_is
from pex_lightning.datasets.npz import MOST_COMPRESSED, NpzFile, is_npz, open_npz
from pex_lightning.errors import UserError, printable, shortened
from pex_lightning.files.kinds import check_regular_file
from pex_lightning.jobs import start_module

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LONGEST_ANSWER = 2**25
_SMALL = 2**22
"""Some flags of few rows may never have been written."""


class Hdf5Array:
    """An array of a file, read rows by rows as float32.

    Attributes:
        dtype: Its type in the file.
        shape: Its shape; None if it has no values.
        chunks: Shape of the parts that it is stored in; None if it is stored whole.
    """

    def __init__(self, file: Hdf5File, path: str, found: dict[str, Any]) -> None:
        self._file, self._path = file, path
        self.dtype = np.dtype(found["dtype"]) if found["numeric"] else np.dtype(object)
        self.type_name = str(self.dtype) if found["numeric"] else str(found["dtype"])
        self.shape = None if found["shape"] is None else tuple(found["shape"])
        self.chunks = None if found["chunks"] is None else tuple(found["chunks"])

    def read_rows(self, start: int, stop: int, into: np.ndarray) -> None:
        """Read rows `start` to `stop` into `[stop − start, …]` float32.

        Raises:
            UserError: They cannot be read.
        """
        self._file.read(self._path, start, stop, into)


class Hdf5File:
    """An HDF5 file, opened by a process of its own.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be opened; the methods raise it where something cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # It ends with its input.
        self._process = start_module(
            hdf5_process.__name__,
            str(path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Threads of linear algebra would take memory, and there is none to do.
            environment={"OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Names at the root of the file."""
        return [printable(str(name)) for name in self._ask("names")]

    def attribute(self, name: str) -> Any:
        """An attribute of the file: text, a number or a list of numbers; else None."""
        return self._ask("attribute", name=name)

    def arrays(self, paths: Sequence[str]) -> list[Hdf5Array | str]:
        """The array at each path, or the kind of what is there instead.

        The kinds are `group`, `link`, `elsewhere` (in another file) and `nothing`.

        Raises:
            UserError: An array claims to be larger than what the file can hold.
        """
        found = self._ask("describe", paths=list(paths))
        pairs = list(zip(paths, found, strict=True))
        for path, item in pairs:
            if item["kind"] == "array":
                self._check_size(path, item)
        return [
            Hdf5Array(self, path, item) if item["kind"] == "array" else str(item["kind"])
            for path, item in pairs
        ]

    def read(self, path: str, start: int, stop: int, into: np.ndarray) -> None:
        """Read rows of an array; see `Hdf5Array.read_rows`."""
        self._ask("read", path=path, start=start, stop=stop)
        pipe = self._process.stdout
        assert pipe is not None
        values = into if into.flags.c_contiguous else np.empty_like(into, order="C")
        left = values.reshape(-1).view(np.uint8).data
        while len(left):
            count = pipe.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise self._ended()
            left = left[count:]
        if values is not into:
            into[:] = values

    def close(self) -> None:
        """End the process."""
        process = self._process
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        process.wait()

    def _ask(self, do: str, **arguments: Any) -> Any:
        pipe = self._process.stdin
        assert pipe is not None
        # If the process is gone, there is no answer.
        with contextlib.suppress(OSError):
            pipe.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            pipe.flush()
        return self._answer()

    def _answer(self) -> Any:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline(_LONGEST_ANSWER)
        if len(line) == _LONGEST_ANSWER:
            raise self._damaged("what it says of itself is too long")
        if not line.endswith(b"\n"):
            raise self._ended()
        answer = json.loads(line)
        if "error" not in answer:
            return answer["result"]
        if answer["error"] == "permission":
            raise UserError(f"{self.path} cannot be read: permission denied.")
        if answer["error"] == "memory":
            raise self._damaged(f"reading it needs more than {hdf5_process.MEMORY // 2**30} GiB")
        raise self._damaged(shortened(printable(answer["message"])))

    def _ended(self) -> UserError:
        """Why the process is gone, in the middle of an answer."""
        code = self._process.wait()
        if code == -getattr(signal, "SIGALRM", 0):
            return self._damaged(f"a part of it could not be read within {hdf5_process.SECONDS} s")
        return self._damaged(f"the process that read it ended with exit code {code}")

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self.path} is HDF5 but cannot be read to its end ({reason}). It is cut short or "
            "damaged: download it again, or write it again."
        )

    def _check_size(self, path: str, item: dict[str, Any]) -> None:
        if not item["numeric"] or item["shape"] is None:
            return
        claimed = math.prod(item["shape"]) * np.dtype(item["dtype"]).itemsize
        held = min(int(item["stored"]), self.path.stat().st_size)
        if claimed > MOST_COMPRESSED * held + _SMALL:
            raise UserError(
                f"{self.path}: '{path}' has shape {item['shape']}, {claimed:,} bytes, but the file "
                f"holds {held:,} bytes of it, which cannot be so much even if it is compressed. "
                "The file is damaged, or the array was never filled."
            )


@contextmanager
def open_arrays(path: Path) -> Iterator[Hdf5File | NpzFile]:
    """Open a file of arrays, HDF5 or NumPy's `.npz`.

    Raises:
        UserError: As for `open_hdf5`.
    """
    _check_is_file(path)
    with open_npz(path) if is_npz(path) else open_hdf5(path) as file:
        yield file


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5File]:
    """Open a local HDF5 file for reading.

    Raises:
        UserError: The file is missing, a folder, not readable, not HDF5, or truncated; also if
            reading fails inside the `with` block.
    """
    _check_is_file(path)
    try:
        if not is_hdf5(path):
            raise UserError(
                f"{path} is not an HDF5 file ({path.stat().st_size:,} bytes), expected a D4RL "
                f"dataset (.hdf5). {what_it_is(path)}"
            )
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    with contextlib.closing(Hdf5File(path)) as file:
        yield file


def is_hdf5(path: Path) -> bool:
    """Whether the signature is at one of the places where HDF5 looks for it."""
    with path.open("rb") as file:
        size, place = os.fstat(file.fileno()).st_size, 0
        while place < size:
            file.seek(place)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            place = 2 * place or 512
    return False


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        files = sorted(entry.name for entry in path.glob("*.hdf5"))
        listed = f" It holds {', '.join(files[:8])}." if files else ""
        raise UserError(f"{path} is a folder, expected an HDF5 file.{listed}")
    if path.exists():
        check_regular_file(path)
        return
    if not path.parent.is_dir():
        raise UserError(f"there is no file {path}: the folder {path.parent} does not exist.")
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=3)
    near = near or [name for name in names if name.endswith((".hdf5", ".h5"))][:8]
    listed = f"Near names there: {', '.join(near)}." if near else "It has no file of such a name."
    raise UserError(f"there is no file {path.name} in {path.parent}. {listed}")


_KINDS = {
    "link": "is a link to another place, which is not followed. Copy the array itself into the "
    "file.",
    "group": "is a group, expected an array.",
    "elsewhere": "is stored in other files, which are not opened. Copy the array itself into the "
    "file.",
    "nothing": "is no array.",
}


def find_columns(
    file: Hdf5File | NpzFile, keys: Sequence[str], *, matrices: Sequence[str]
) -> list[Column]:
    """Find arrays at the root of a file and check their shapes.

    Args:
        file: The open file.
        keys: The arrays' names.
        matrices: Those of which [N, D] is expected; of others [N] or [N, 1].

    Raises:
        UserError: One is not a numeric array of that shape, stored in this file.
    """
    columns = []
    for key, found in zip(keys, file.arrays(keys), strict=True):
        if isinstance(found, str):
            raise UserError(f"{file.path}: '{key}' {_KINDS[found]}")
        column = Column(source=str(file.path), key=key, values=found)
        column.check_shape(matrix=key in matrices)
        columns.append(column)
    return columns
