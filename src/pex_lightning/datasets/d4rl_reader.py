"""D4RL's HDF5 files as transitions."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import h5py

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset, Origin
from pex_lightning.datasets.hdf5 import find_column, open_hdf5
from pex_lightning.datasets.rows import MATRICES, OPTIONAL, REQUIRED, read_rows
from pex_lightning.envs import register_envs
from pex_lightning.errors import UserError

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

MADE_BY = "pex_lightning"
"""How the attribute `generator` of a file begins that this package recorded."""


def read_d4rl(
    path: str | PathLike[str],
    *,
    spec: EnvSpec | None = None,
    max_episode_steps: int | None = None,
    name: str | None = None,
    origin: Origin | None = None,
) -> Dataset:
    """Read a D4RL file (arXiv 2004.07219) and keep what `d4rl.qlearning_dataset` keeps.

    The next observation of row i is row i + 1's observation. Rows with a time-out have none in the
    file, so they are dropped, and so is the file's last row. A terminal row stays: its next
    observation is masked. If the file has `next_observations`, these are taken and no row is
    dropped. `terminated` comes from `terminals` alone; `truncated` marks the last row kept of an
    episode that did not terminate. Actions are clipped by `Transitions.clip_actions_`.

    Episodes end at a terminal or a time-out. A file without `timeouts` has one every
    `max_episode_steps` rows, counted from the episode's first row.

    Only plain arrays are read: nothing in the file is executed and no other file is opened.
    Memory: the transitions, up to 32 MiB of buffers, and about 40 bytes per row of the file.

    Args:
        path: The file.
        spec: The environment that the policy will act in. Without it, actions must lie in [−1, 1].
        max_episode_steps: Steps to the time-out; the environment's if not given. Only looked at if
            the file has no `timeouts`.
        name: What the dataset is called; by default the file's name without its ending. A file
            that this package recorded is always called `made:<recipe>`.
        origin: What kind of dataset it is; by default `file`, and `made` for such a file.

    Raises:
        UserError: The file cannot be read, is not a D4RL file, holds bad values, or does not fit
            the environment.
    """
    path = Path(path).expanduser().absolute()
    with open_hdf5(path) as file:
        made = made_name(file)
        kind: Origin = "file" if made is None else "made"
        return read_rows(
            _find_columns(file, path),
            # What this package recorded is never taken for anything else, whatever it is called.
            name=made or name or path.stem,
            path=str(path),
            origin=kind if made else origin or kind,
            spec=spec,
            max_episode_steps=max_episode_steps,
        )


def made_name(file: h5py.File) -> str | None:
    """`made:<recipe>` if this package recorded the file, wherever it lies now; else None."""
    generator, name = file.attrs.get("generator"), file.attrs.get("dataset")
    if not (isinstance(generator, str) and generator.startswith(f"{MADE_BY}.")):
        return None
    return f"made:{re.sub(r'[^A-Za-z0-9_.-]', '_', str(name))[:64]}"


def recorded_environment(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Id and arguments of the environment that a file says it was recorded in.

    Only environments of this package count, so that nothing is imported for it.

    Raises:
        UserError: The file cannot be opened.
    """
    with open_hdf5(path) as file:
        env_id, kwargs = file.attrs.get("env_id"), file.attrs.get("env_kwargs", "{}")
    if not (isinstance(env_id, str) and env_id.startswith(f"{MADE_BY}/")):
        return None
    register_envs()
    if env_id not in gymnasium.registry:
        return None
    try:
        arguments = json.loads(kwargs)
    except (TypeError, ValueError):
        return None
    return (env_id, arguments) if isinstance(arguments, dict) else None


def _find_columns(file: h5py.File, path: Path) -> dict[str, Column]:
    keys = set(file.keys())
    missing = [key for key in REQUIRED if key not in keys]
    if missing:
        found = ", ".join(sorted(keys)) or "none"
        raise UserError(
            f"{path}: the keys {', '.join(missing)} are missing. Found: {found}. Expected a D4RL "
            f"file with {', '.join(REQUIRED)} and, where it has them, {', '.join(OPTIONAL)}."
        )
    return {
        key: find_column(file, key, path, matrix=key in MATRICES)
        for key in (*REQUIRED, *OPTIONAL)
        if key in keys
    }
