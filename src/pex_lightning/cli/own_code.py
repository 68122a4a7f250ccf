"""A user's own code: where its modules are found, and the flags that name it again.

A file never has a module imported: neither a checkpoint, nor a folder that was copied with one. Who
runs a command names the code, and a finished run prints the command that does.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.algorithms.checks import method_name
from pex_lightning.policies.member_entry import MemberEntry


def find_own_modules() -> None:
    """Let modules be found in the current folder too, after all others.

    Python's own switch for safe paths (`PYTHONSAFEPATH`) turns it off.
    """
    folder = os.getcwd()
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.append(folder)


def evaluation_command(ckpt_path: Path, module: Algorithm, env_id: str) -> str:
    """The command that evaluates a run's checkpoint, with the flags that name the user's own code.

    Args:
        ckpt_path: The checkpoint.
        module: The method that wrote it.
        env_id: The environment that it was trained in.
    """
    words = ["pex-lightning", "test", "--ckpt_path", str(ckpt_path)]
    name = method_name(type(module))
    if name not in ALGORITHMS:
        words += ["--model", name]
    if ":" in env_id:
        words += ["--data.env", env_id]
    entries = [MemberEntry(**entry) for entry in module.hparams.get("members") or []]
    code = [{"path": entry.path, "name": entry.name} for entry in entries if entry.outside]
    if code:
        words += ["--members", json.dumps(code)]
    return shlex.join(words)
