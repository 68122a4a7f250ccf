"""Addresses of files on servers and in local folders."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname


def local_path(url: str) -> Path | None:
    """Return the local path for `url`; None if it is a server's address."""
    if url.startswith("file://"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url).expanduser()


def file_below(mirror: str, file: str) -> str:
    """Return the address of a file on a mirror.

    Args:
        mirror: A server's address or a local folder. In an address, `{name}` stands for the file's
            name and `{file}` for its path; without either, the path is appended. In a folder, the
            file may also lie directly, without subfolders, as in D4RL's own dataset folder.
        file: Path of the file on the mirror, such as `ant_maze_v2/NAME.hdf5`.
    """
    folder = local_path(mirror)
    if folder is None and ("{name}" in mirror or "{file}" in mirror):
        return mirror.replace("{name}", Path(file).name).replace("{file}", file)
    if folder is None:
        return f"{mirror.rstrip('/')}/{file}"
    flat = folder / Path(file).name
    return str(flat if flat.is_file() else folder / file)


def shown(url: str) -> str:
    """Remove user name and password from an address, for messages and files."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
