"""A user's own code: where its modules are found.

A file never has a module imported: neither a checkpoint, nor a folder that was copied with one. Who
runs a command names the code, and a finished run prints the command that does.
"""

from __future__ import annotations

import os
import sys


def find_own_modules() -> None:
    """Let modules be found in the current folder too, after all others.

    Python's own switch for safe paths (`PYTHONSAFEPATH`) turns it off.
    """
    folder = os.getcwd()
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.append(folder)
