"""Reader of D4RL's HDF5 files."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset, Origin
from pex_lightning.datasets.episode_ends import END_NAMES, TERMINAL_NAMES
from pex_lightning.datasets.hdf5 import Hdf5File, find_columns, open_arrays
from pex_lightning.datasets.npz import NpzFile
from pex_lightning.datasets.rows import COLUMNS, MATRICES, OPTIONAL, REQUIRED, read_rows
from pex_lightning.envs import register_envs
from pex_lightning.errors import UserError, shortened

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

MADE_BY = "pex_lightning"
"""Start of the file attribute `generator` in files recorded by this package."""


def read_d4rl(
    path: str | PathLike[str],
    *,
    spec: EnvSpec | None = None,
    max_episode_steps: int | None = None,
    name: str | None = None,
    origin: Origin | None = None,
    as_published: bool = False,
) -> Dataset:
    """Read the transitions of an HDF5 or `.npz` file in D4RL's layout (arXiv 2004.07219).

    The next observation of row i is the observation of row i + 1. Rows with a time-out and the
    file's last row have none and are dropped, unless they are terminal: the next observation of a
    terminal row is masked. If the file has `next_observations`, these are used and no row is
    dropped. `terminated` comes from `terminals` alone; `truncated` marks the last kept row of an
    episode that did not terminate. Actions are clipped by `Transitions.clip_actions_`.

    Episodes end at a terminal or a time-out. The columns that tell them are those of
    `episode_ends.FLAG_NAMES`. If none tells a time-out, an episode times out every
    `max_episode_steps` rows.

    Nothing in the file is executed and no other file is opened. Memory: the transitions, up to
    32 MiB of buffers, and about 40 bytes per row of the file.

    Args:
        path: The file.
        spec: The environment that the policy will act in. Without it, actions must lie in [−1, 1].
        max_episode_steps: Steps to the time-out, by default the environment's. Only used if the
            file has no `timeouts`.
        name: Name of the dataset, by default the file name without suffix. A file recorded by this
            package is always called `made:<recipe>`.
        origin: Kind of dataset, by default `file`; always `made` if this package recorded the file.
        as_published: Whether to keep exactly what `d4rl.qlearning_dataset` keeps, as results on
            D4RL's published files are comparable only then: it drops time-outs and the last row
            even if they are terminal.

    Raises:
        UserError: The file cannot be read, is not a D4RL file, holds bad values, or does not fit
            the environment.
    """
    path = Path(path).expanduser().absolute()
    with open_arrays(path) as file:
        made = made_name(file)
        kind: Origin = "file" if made is None else "made"
        return read_rows(
            read_columns(file),
            name=made or name or path.stem,
            path=str(path),
            origin=kind if made else origin or kind,
            spec=spec,
            max_episode_steps=max_episode_steps,
            as_published=as_published,
        )


def made_name(file: Hdf5File | NpzFile) -> str | None:
    """Return `made:<recipe>` if this package recorded the file, else None."""
    generator, name = file.attribute("generator"), file.attribute("dataset")
    if not (isinstance(generator, str) and generator.startswith(f"{MADE_BY}.")):
        return None
    return f"made:{re.sub(r'[^A-Za-z0-9_.-]', '_', str(name))[:64]}"


def recorded_environment(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return id and arguments of the environment that a file names, if it is of this package.

    For other environments the result is None, so that no module named by a file is imported.

    Raises:
        UserError: The file cannot be opened.
    """
    with open_arrays(path) as file:
        env_id, kwargs = file.attribute("env_id"), file.attribute("env_kwargs")
    if not (isinstance(env_id, str) and env_id.startswith(f"{MADE_BY}/")):
        return None
    register_envs()
    if env_id not in gymnasium.registry:
        return None
    try:
        arguments = json.loads("{}" if kwargs is None else kwargs)
    except (TypeError, ValueError, RecursionError):
        return None
    return (env_id, arguments) if isinstance(arguments, dict) else None


def read_columns(file: Hdf5File | NpzFile) -> dict[str, Column]:
    """Find the arrays that are read, by their names in the file.

    Raises:
        UserError: A required one is missing, or one is not a numeric array of the right shape.
    """
    path, keys = file.path, set(file.names())
    has_terminals = any(name in keys for name in TERMINAL_NAMES)
    missing = [key for key in REQUIRED if key not in keys]
    if has_terminals and "terminals" in missing:
        missing.remove("terminals")
    if missing:
        found = shortened(", ".join(sorted(keys)), 1000) or "none"
        raise UserError(
            f"{path}: the keys {', '.join(missing)} are missing. Found: {found}. Expected a D4RL "
            f"file with {', '.join(REQUIRED)} and, where it has them, {', '.join(OPTIONAL)}."
            f"{_done_hint(keys) if missing == ['terminals'] else ''}"
        )
    present = [key for key in COLUMNS if key in keys]
    return dict(zip(present, find_columns(file, present, matrices=MATRICES), strict=True))


def _done_hint(keys: set[str]) -> str:
    ends = [name for name in END_NAMES if name in keys]
    if not ends:
        return ""
    return (
        f" '{ends[0]}' alone does not tell whether an episode was ended by the environment "
        "('terminals') or by a time limit ('timeouts'): write both."
    )
