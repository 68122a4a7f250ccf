"""What a file that is not HDF5 is instead, by its first bytes, and what to do with it."""

from __future__ import annotations

import shlex
from pathlib import Path

_CONVERT = (
    "load it yourself and write its arrays with pex_lightning.datasets.arrays.write_d4rl (README, "
    "'Your own')."
)
_PICKLE = f"It is a Python pickle, which may execute code, so it is not read: {_CONVERT}"
_TABLE = f"It is an array or a table of another format: {_CONVERT}"
_WEB_PAGE = "It is a web page, as a failed download leaves it: download the dataset again."

_KINDS = {
    b"\x1f\x8b": "It is a gzip archive: unpack it with `gunzip -k {path}`.",
    b"bzh": "It is a bzip2 archive: unpack it with `bunzip2 -k {path}`.",
    b"\xfd7zxz\x00": "It is an xz archive: unpack it with `unxz -k {path}`.",
    b"\x28\xb5\x2f\xfd": "It is a zstd archive: unpack it with `unzstd {path}`.",
    b"pk\x03\x04": "It is a zip archive: unpack it with `unzip {path}`.",
    b"version https://git-lfs": (
        "It is a pointer of Git LFS instead of the data: run `git lfs pull` in its folder."
    ),
    b"<!doctype": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<?xml": _WEB_PAGE,
    b"\x80\x02": _PICKLE,
    b"\x80\x03": _PICKLE,
    b"\x80\x04": _PICKLE,
    b"\x80\x05": _PICKLE,
    b"\x93numpy": _TABLE,
    b"par1": _TABLE,
    b"arrow1": _TABLE,
}
"""Sentences by the first bytes of a file, in lower case."""


def what_it_is(path: Path) -> str:
    """Say in a sentence what kind of file it is and how to get HDF5 from it.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(512).lower()
    if not head:
        return "It is empty, as a failed download leaves it: download the dataset again."
    quoted = shlex.quote(str(path))
    for magic, sentence in _KINDS.items():
        if head.lstrip(b" \t\r\n").startswith(magic):
            return sentence.format(path=quoted)
    if head[257:262] == b"ustar":
        return f"It is a tar archive: unpack it with `tar xf {quoted}`."
    return f"If it was downloaded, download it again; if it is data of another format, {_CONVERT}"
