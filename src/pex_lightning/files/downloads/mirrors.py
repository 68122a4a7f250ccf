"""Addresses of files: on a server, or in a folder of this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname


def local_path(url: str) -> Path | None:
    """The path that `url` means on this machine; None if it is a server's address."""
    if url.startswith("file://"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url).expanduser()


def file_below(mirror: str, file: str) -> str:
    """Address of a file below a mirror's.

    Args:
        mirror: A server's address, or a folder. A folder may hold the file by its name alone, as
            D4RL's own dataset folder does. In an address `{name}` stands for the file's name and
            `{file}` for its path; without either, the path is appended.
        file: Path of the file below it, such as `ant_maze_v2/NAME.hdf5`.
    """
    folder = local_path(mirror)
    if folder is None and ("{name}" in mirror or "{file}" in mirror):
        return mirror.replace("{name}", Path(file).name).replace("{file}", file)
    if folder is None:
        return f"{mirror.rstrip('/')}/{file}"
    flat = folder / Path(file).name
    return str(flat if flat.is_file() else folder / file)


def shown(url: str) -> str:
    """The address without a user's name and password, for messages and files."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
