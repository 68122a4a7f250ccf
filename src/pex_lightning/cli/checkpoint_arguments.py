"""Arguments of the commands that load the policy of a checkpoint."""

from __future__ import annotations

import pkgutil
from typing import Any

import torch
from jsonargparse import ArgumentParser

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.cli.arguments import add_optional
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.export.loaded import LoadedPolicy, load_policy
from pex_lightning.policies.member_entry import entries_of


def add_checkpoint_arguments(parser: ArgumentParser) -> None:
    """Add `--ckpt_path`, `--model` and `--members`."""
    parser.add_argument(
        "--ckpt_path", type=str, required=True, help="The checkpoint, or the folder of a run."
    )
    add_optional(
        parser,
        "--model",
        str,
        "The method's class, module.Class; only needed if it is none of this package's.",
    )
    add_optional(
        parser,
        "--members",
        list[str | dict[str, str]],
        "The members of its policy set that are code, named as in training.",
    )


def loaded_policy(settings: Any, device: torch.device | str = "cpu") -> LoadedPolicy:
    """The policy that the arguments name.

    Raises:
        UserError: The arguments or the checkpoint are wrong.
    """
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
            f"{', '.join(ALGORITHMS)}, or give module.Class of a module in the path."
        ) from error
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        raise UserError(f"--model {name} is not a method: it is no subclass of Algorithm.")
    return method
