"""The policy that a command names by its checkpoint."""

from __future__ import annotations

import pkgutil
from typing import Any

import torch

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.export.loaded import LoadedPolicy, load_policy
from pex_lightning.policies.member_entry import entries_of


def loaded_policy(settings: Any, device: torch.device | str = "cpu") -> LoadedPolicy:
    """The policy that the arguments name.

    Raises:
        UserError: The arguments or the checkpoint are wrong.
    """
    if settings.model is not None or settings.members is not None:
        find_own_modules()
    method = None if settings.model is None else _method(settings.model)
    members = {
        entry.name: entry.path for entry in entries_of(settings.members or [], flag="--members")
    }
    return load_policy(settings.ckpt_path, device=device, method=method, members=members)


def _method(name: str) -> type[Algorithm]:
    """The class that the user names with `--model`."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    try:
        method = pkgutil.resolve_name(name)
    except Exception as error:
        raise UserError(
            f"--model {name}: found no such class ({in_one_line(error)}). Known are "
            f"{', '.join(ALGORITHMS)}, or give module.Class of a module in this "
            "folder or in the path."
        ) from error
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        raise UserError(f"--model {name} is not a method: it is no subclass of Algorithm.")
    return method
