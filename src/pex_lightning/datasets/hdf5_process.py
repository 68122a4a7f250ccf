"""The process that reads one HDF5 file for another process: `python -m … FILE`.

HDF5 is a library in C, in which a damaged file can run for ever, crash, or take all memory. Here
this ends a process that has nothing to lose. Requests are JSON lines on the standard input. An
answer is a JSON line on the standard output, and the bytes of an array where one was asked for.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

SECONDS = 60
"""How long one request may take; each is small, so that slow disks have time."""

MEMORY = 4 * 2**30
"""How many bytes the process may take."""

MAX_NAMES, MAX_NAME = 10_000, 200
MAX_TEXT, MAX_NUMBERS = 10_000, 1_000


class Reader:
    """Answers requests about one file; the methods are what can be asked for.

    Args:
        file: The file.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def names(self) -> list[str]:
        """Names at the root of the file."""
        names: list[str] = []
        for name in self._file:
            names.append(str(name)[:MAX_NAME])
            if len(names) == MAX_NAMES:
                break
        return names

    def attribute(self, name: str) -> Any:
        """An attribute of the file, if it is text, a number or a few numbers; else None."""
        attributes = self._file.attrs
        if name not in attributes:
            return None
        kind = attributes.get_id(name)
        if kind.get_storage_size() > max(MAX_TEXT, 8 * MAX_NUMBERS):
            return None
        value = attributes[name]
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist() if value.dtype.kind in "fiub" else None
        plain = isinstance(value, str | int | float | list)
        return value if plain and not (isinstance(value, str) and len(value) > MAX_TEXT) else None

    def describe(self, paths: list[str]) -> list[dict[str, Any]]:
        """What lies at each path: its kind, and type, shape and storage of an array."""
        return [self._describe(path) for path in paths]

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Rows of an array as float32."""
        dataset = self._file[path]
        values = np.empty((stop - start, *dataset.shape[1:]), np.float32)
        dataset.read_direct(values, np.s_[start:stop])
        return values

    def _describe(self, path: str) -> dict[str, Any]:
        item: Any = self._file
        # Links may lead to other files, also within a path.
        for name in path.split("/"):
            link = item.get(name, getlink=True) if isinstance(item, h5py.Group) else None
            if link is None:
                return {"kind": "nothing"}
            if not isinstance(link, h5py.HardLink):
                return {"kind": "link"}
            item = item[name]
        if isinstance(item, h5py.Group):
            return {"kind": "group"}
        if not isinstance(item, h5py.Dataset):
            return {"kind": "nothing"}
        if item.external or item.is_virtual:
            return {"kind": "elsewhere"}
        numeric = item.dtype.kind in "fiub"
        return {
            "kind": "array",
            "dtype": item.dtype.str if numeric else str(item.dtype)[:MAX_NAME],
            "numeric": numeric,
            "shape": None if item.shape is None else list(item.shape),
            "chunks": None if item.chunks is None else list(item.chunks),
            "stored": item.id.get_storage_size(),
        }


def main(path: str) -> None:
    """Answer requests until the input ends."""
    _limit_memory()
    out = sys.stdout.buffer

    def reply(function: Callable[[], Any]) -> Any:
        """Call, within the time; say the result or the error."""
        _set_alarm(SECONDS)
        result: Any = None
        try:
            result = function()
            values = result if isinstance(result, np.ndarray) else None
            answer = {"result": None if isinstance(result, np.ndarray | h5py.File) else result}
            text = json.dumps(answer)
        except MemoryError:
            values, text = None, json.dumps({"error": "memory", "message": ""})
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            kind = "permission" if isinstance(error, PermissionError) else "damaged"
            values, text = None, json.dumps({"error": kind, "message": message})
        _set_alarm(0)
        with contextlib.suppress(BrokenPipeError):
            out.write(text.encode() + b"\n")
            if values is not None:
                out.write(values.data)
            out.flush()
        return result

    # No chunk cache: columns are read once, in whole chunks.
    file = reply(lambda: h5py.File(path, "r", rdcc_nbytes=0))
    if file is None:
        return
    _limit_metadata_cache(file)
    reader = Reader(file)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        function = getattr(reader, request.pop("do"))
        reply(lambda f=function, r=request: f(**r))  # type: ignore[misc]


def _limit_memory() -> None:
    try:
        import resource  # noqa: PLC0415
    except ImportError:
        # Windows has no such limit.
        return
    # A lower limit of the machine's stays, since only its owner may raise it.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _limit_metadata_cache(file: h5py.File) -> None:
    """Without this limit, HDF5 caches 110 MB of metadata of arrays that are read only once."""
    cache = file.id.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size, cache.min_size, cache.max_size = 2**20, 2**20, 2**21
    file.id.set_mdc_config(cache)


def _set_alarm(seconds: int) -> None:
    """Have the process ended after this time, whatever it is at; 0 is never."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


if __name__ == "__main__":
    main(sys.argv[1])
