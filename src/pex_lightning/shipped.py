"""The configurations that come with the package."""

from __future__ import annotations

import difflib
import posixpath
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "conf"
"""In a checkout a link to the `conf/` of the repository."""

_BASE = re.compile(r"^base: \[(.*)\]$", re.MULTILINE)


def shipped_names() -> list[str]:
    """Names of all of them, such as `conf/antmaze.yaml`."""
    return sorted(f"conf/{path.relative_to(FOLDER).as_posix()}" for path in FOLDER.rglob("*.yaml"))


def shipped_config(name: str) -> Path | None:
    """The file of a name such as `conf/antmaze.yaml`; None if none of that name is shipped."""
    name = posixpath.normpath(name)
    if name not in shipped_names():
        return None
    return FOLDER / name.removeprefix("conf/")


def close_to(name: str) -> list[str]:
    """Names of shipped configurations that a misspelt name may stand for, the closest first."""
    names = shipped_names()
    stem = Path(name).stem.lower()
    by_stem = {Path(known).stem: known for known in reversed(names)}
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.8)
    close += [by_stem[found] for found in difflib.get_close_matches(stem, by_stem, n=2)]
    return list(dict.fromkeys(close))[:2]


def copied_text(name: str) -> str:
    """The text of a shipped configuration as it works in any folder.

    What it names under `base:` relative to itself is named there as a shipped configuration.

    Args:
        name: One of `shipped_names`.
    """
    folder = posixpath.dirname(name)

    def absolute(match: re.Match[str]) -> str:
        bases = (posixpath.normpath(f"{folder}/{base.strip()}") for base in match[1].split(","))
        return f"base: [{', '.join(bases)}]"

    return _BASE.sub(absolute, (FOLDER / name.removeprefix("conf/")).read_text())
