"""D4RL's HDF5 files as transitions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch

from pex_lightning.data.hdf5 import Column, open_hdf5
from pex_lightning.data.transitions import DatasetInfo, Transitions
from pex_lightning.errors import UserError

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("timeouts", "next_observations")
_MATRICES = ("observations", "actions", "next_observations")


@dataclass(frozen=True)
class Dataset:
    """What a dataset reader gives.

    Attributes:
        transitions: The transitions, raw rewards.
        info: Where they come from.
        episode_returns: [E] float64, raw return of each complete episode, all its rows included.
        episode_lengths: [E] int64, rows of each complete episode.
    """

    transitions: Transitions
    info: DatasetInfo
    episode_returns: np.ndarray
    episode_lengths: np.ndarray


def read_d4rl(
    path: str | PathLike[str],
    *,
    spec: EnvSpec | None = None,
    max_episode_steps: int | None = None,
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

    Raises:
        UserError: The file cannot be read, is not a D4RL file, holds bad values, or does not fit
            the environment.
    """
    path = Path(path).expanduser().absolute()
    with open_hdf5(path) as file:
        columns = _find_columns(file, path)
        if spec is not None:
            _check_sizes(columns, spec, path)
        limit = spec.max_episode_steps if max_episode_steps is None and spec else max_episode_steps
        return _read(columns, path, spec, limit)


def _find_columns(file: h5py.File, path: Path) -> dict[str, Column]:
    keys = set(file.keys())
    missing = [key for key in _REQUIRED if key not in keys]
    if missing:
        found = ", ".join(sorted(keys)) or "none"
        raise UserError(
            f"{path}: the keys {', '.join(missing)} are missing. Found: {found}. Expected a D4RL "
            f"file with {', '.join(_REQUIRED)} and, where it has them, {', '.join(_OPTIONAL)}."
        )
    columns = {
        key: Column.find(file, key, path, matrix=key in _MATRICES)
        for key in (*_REQUIRED, *_OPTIONAL)
        if key in keys
    }
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise UserError(f"{path}: keys differ in their number of rows ({listed}).")
    if lengths["observations"] == 0:
        raise UserError(f"{path}: it has no rows. Give a file that has some.")
    if "next_observations" in columns:
        here, following = columns["observations"].width, columns["next_observations"].width
        if here != following:
            raise UserError(
                f"{path}: 'observations' have {here} numbers per row, 'next_observations' "
                f"{following}; they must be equal."
            )
    return columns


def _check_sizes(columns: dict[str, Column], spec: EnvSpec, path: Path) -> None:
    """Compare sizes before the file is read, which may take seconds."""
    for key, expected in (("observations", spec.obs_dim), ("actions", spec.action_dim)):
        if columns[key].width != expected:
            raise UserError(
                f"{path}: '{key}' have {columns[key].width} numbers per row, those of environment "
                f"{spec.id} have {expected}. Take the environment that the data were recorded in "
                f"(--data.env, --data.env_kwargs), or another file (--data.path)."
            )


def _read(
    columns: dict[str, Column], path: Path, spec: EnvSpec | None, limit: int | None
) -> Dataset:
    terminals = columns["terminals"].flags()
    if "timeouts" in columns:
        timeouts = columns["timeouts"].flags()
    else:
        timeouts = derive_timeouts(terminals, _checked_limit(limit, path))
    rewards = columns["rewards"].vector()
    keep = _rows_to_keep(timeouts, has_next="next_observations" in columns)
    if not keep.any():
        raise UserError(
            f"{path}: none of its {len(keep)} rows is left once those without a next observation "
            f"(time-outs and the last row) are dropped. Give a file with longer episodes."
        )

    digest = hashlib.sha256()

    def seen(values: np.ndarray) -> None:
        digest.update(values.data)

    observation, next_observation = _kept_observations(columns, keep, seen)
    action = _kept_rows(columns["actions"], keep, seen)
    for values in (rewards, terminals, timeouts):
        seen(values)
    transitions = Transitions.from_tensors(
        observation=torch.from_numpy(observation),
        action=torch.from_numpy(action),
        next_observation=torch.from_numpy(next_observation),
        reward=torch.from_numpy(rewards[keep]),
        terminated=torch.from_numpy(terminals[keep]),
        truncated=torch.from_numpy((_cut_after(timeouts, keep) & ~terminals)[keep]),
        source=str(path),
    )
    _fit_actions(transitions, spec)
    returns, lengths = episode_statistics(rewards, terminals | timeouts)
    info = DatasetInfo(
        name=path.stem,
        path=str(path),
        fingerprint=digest.hexdigest()[:16],
        rows=len(keep),
        transitions=len(transitions),
        episodes=len(returns),
        terminals=int(terminals.sum()),
        timeouts=int(timeouts.sum()),
    )
    return Dataset(transitions, info, returns, lengths)


def _checked_limit(limit: int | None, path: Path) -> int:
    if limit is None:
        raise UserError(
            f"{path}: it has no 'timeouts', so where its episodes end must be told. Give the "
            f"environment (--data.env) or max_episode_steps."
        )
    if limit < 1:
        raise UserError(f"max_episode_steps: found {limit}, expected at least 1.")
    return limit


def derive_timeouts(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Where episodes time out in a file that does not say so.

    Args:
        terminals: [N] bool.
        max_episode_steps: Rows of an episode that times out.

    Returns:
        [N] bool: every `max_episode_steps`-th row of an episode, counted from its first row.
    """
    rows = np.arange(len(terminals))
    after_terminal = np.zeros(len(terminals), dtype=rows.dtype)
    after_terminal[1:] = np.where(terminals[:-1], rows[1:], 0)
    steps = rows - np.maximum.accumulate(after_terminal) + 1
    timeouts: np.ndarray = steps % max_episode_steps == 0
    return timeouts


def episode_statistics(rewards: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of the complete episodes.

    Args:
        rewards: [N] raw rewards.
        ends: [N] bool, the last row of each episode. Rows after the last end are left out.

    Returns:
        (returns [E] float64, lengths [E] int64).
    """
    last = np.flatnonzero(ends)
    if len(last) == 0:
        return np.empty(0, dtype=np.float64), np.empty(0, dtype=np.int64)
    first = np.concatenate(([0], last[:-1] + 1))
    complete = rewards[: last[-1] + 1]
    returns = np.add.reduceat(complete, first, dtype=np.float64)
    return returns, (last - first + 1).astype(np.int64)


def _rows_to_keep(timeouts: np.ndarray, *, has_next: bool) -> np.ndarray:
    if has_next:
        return np.ones(len(timeouts), dtype=np.bool_)
    keep = ~timeouts
    keep[-1] = False
    return keep


def _cut_after(timeouts: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Rows [N] after which the file has no next row kept, or one of another episode."""
    if keep.all():
        cut = timeouts.copy()
        cut[-1] = True
        return cut
    return np.append(~keep[1:], True)


def _kept_observations(
    columns: dict[str, Column], keep: np.ndarray, seen: Callable[[np.ndarray], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Observations and next observations of the rows kept, reading each column once.

    Args:
        columns: The file's columns.
        keep: [N] bool, K of them true.
        seen: Called with every block of values read.

    Returns:
        Two arrays [K, obs_dim] float32.
    """
    if "next_observations" in columns:
        following = columns["next_observations"]
        return _kept_rows(columns["observations"], keep, seen), _kept_rows(following, keep, seen)
    column = columns["observations"]
    observation = np.empty((int(keep.sum()), column.width), dtype=np.float32)
    next_observation = np.empty_like(observation)
    # Row i's next observation is row i + 1's observation: the same mask, one row later.
    keep_before = np.append(False, keep[:-1])
    filled, next_filled = 0, 0
    for start, block in column.blocks():
        seen(block)
        filled = _append_rows(observation, filled, block, keep[start : start + len(block)])
        mask = keep_before[start : start + len(block)]
        next_filled = _append_rows(next_observation, next_filled, block, mask)
    return observation, next_observation


def _kept_rows(column: Column, keep: np.ndarray, seen: Callable[[np.ndarray], None]) -> np.ndarray:
    values = np.empty((int(keep.sum()), column.width), dtype=np.float32)
    filled = 0
    for start, block in column.blocks():
        seen(block)
        filled = _append_rows(values, filled, block, keep[start : start + len(block)])
    return values


def _append_rows(into: np.ndarray, filled: int, block: np.ndarray, mask: np.ndarray) -> int:
    stop = filled + int(mask.sum())
    np.compress(mask, block, axis=0, out=into[filled:stop])
    return stop


def _fit_actions(transitions: Transitions, spec: EnvSpec | None) -> None:
    if spec is not None:
        low, high, space = spec.action_low, spec.action_high, f"environment {spec.id}"
    else:
        high = (1.0,) * transitions.action_dim
        low, space = tuple(-bound for bound in high), "D4RL (no environment was given)"
    transitions.check_actions(low, high, space=space)
    transitions.clip_actions_(low, high)
