"""What a file that is not HDF5 is instead, by its first bytes, and what to do with it."""

from __future__ import annotations

import shlex
from pathlib import Path

_ARCHIVES = (
    (b"\x1f\x8b", "gzip", "gunzip -k"),
    (b"BZh", "bzip2", "bunzip2 -k"),
    (b"\xfd7zXZ\x00", "xz", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"PK\x03\x04", "zip", "unzip"),
)
_CONVERT = (
    "load it yourself and write its arrays with pex_lightning.datasets.arrays.write_d4rl (README, "
    "'Your own')."
)
_TAR_MAGIC = slice(257, 262)


def what_it_is(path: Path) -> str:
    """Say in a sentence what kind of file it is and how to get HDF5 from it.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(512)
    for magic, name, command in _ARCHIVES:
        if head.startswith(magic):
            return f"It is a {name} archive: unpack it with `{command} {shlex.quote(str(path))}`."
    text = head.lstrip().lower()
    if head[_TAR_MAGIC] == b"ustar":
        return f"It is a tar archive: unpack it with `tar xf {shlex.quote(str(path))}`."
    if head.startswith(b"version https://git-lfs"):
        return "It is a pointer of Git LFS instead of the data: run `git lfs pull` in its folder."
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "It is a web page, as a failed download leaves it: download the dataset again."
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05":
        return f"It is a Python pickle, which may execute code, so it is not read: {_CONVERT}"
    if head.startswith((b"\x93NUMPY", b"PAR1", b"ARROW1")):
        return f"It is an array or a table of another format: {_CONVERT}"
    if not head:
        return "It is empty, as a failed download leaves it: download the dataset again."
    return f"If it was downloaded, download it again; if it is data of another format, {_CONVERT}"
