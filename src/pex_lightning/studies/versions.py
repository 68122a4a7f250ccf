"""Which code made a run: this package's version, and the revision of its checkout."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pex_lightning
from pex_lightning.version import __version__


@dataclass(frozen=True)
class CodeVersion:
    """The code of this package.

    Attributes:
        version: Its version.
        git_revision: Commit of the checkout that it runs from, with `-dirty` where files differ
            from it; None if it is installed without one, or git is missing.
    """

    version: str
    git_revision: str | None


def code_version() -> CodeVersion:
    """The version and the revision of the code that runs now."""
    folder = Path(pex_lightning.__file__).resolve().parent
    found = None
    # A package that is installed into a folder of somebody's repository is no checkout of ours.
    if folder.parent.name == "src" and (folder.parents[1] / ".git").exists():
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
        try:
            done = subprocess.run(
                [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
            )
            found = done.stdout.strip() or None
        except (OSError, subprocess.SubprocessError):
            found = None
    return CodeVersion(__version__, found)
