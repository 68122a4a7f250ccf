"""Conversion of rows in D4RL's layout to transitions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset, DatasetInfo, Origin
from pex_lightning.datasets.episode_ends import (
    FLAG_NAMES,
    derive_timeouts,
    rows_to_keep,
    told_terminals,
    told_timeouts,
)
from pex_lightning.datasets.transitions import Transitions
from pex_lightning.errors import UserError, check_range

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
COLUMNS = (*REQUIRED[:3], "next_observations", *FLAG_NAMES)
"""Every array that is read."""

MATRICES = ("observations", "actions", "next_observations")


def read_rows(
    columns: Mapping[str, Column],
    *,
    name: str,
    path: str,
    origin: Origin,
    spec: EnvSpec | None = None,
    max_episode_steps: int | None = None,
    as_published: bool = False,
) -> Dataset:
    """Convert rows in D4RL's layout to transitions by the rules of `read_d4rl`.

    Args:
        columns: Columns by D4RL's names: all of `REQUIRED`, and `next_observations` and other
            columns of `FLAG_NAMES` where there are any.
        name: Name of the dataset.
        path: Path of the file; empty for arrays.
        origin: Kind of dataset.
        spec: As for `read_d4rl`.
        max_episode_steps: As for `read_d4rl`.
        as_published: As for `read_d4rl`.

    Raises:
        UserError: As for `read_d4rl`.
    """
    source = columns["observations"].source
    _check_rows(columns, source)
    if spec is not None:
        _check_sizes(columns, spec, source)
    limit = spec.max_episode_steps if max_episode_steps is None and spec else max_episode_steps
    flags = {key: column.flags() for key, column in columns.items() if key in FLAG_NAMES}
    terminals = told_terminals(flags, source)
    told = told_timeouts(terminals, flags, source)
    told_by, timeouts = told or (None, derive_timeouts(terminals, _checked_limit(limit, source)))
    del flags
    rewards = columns["rewards"].vector()
    has_next = "next_observations" in columns
    keep = rows_to_keep(terminals, timeouts, has_next=has_next, as_published=as_published)
    if not keep.any():
        raise UserError(
            f"{source}: none of its {len(keep)} rows is left once those without a next observation "
            f"(time-outs and the last row) are dropped. Give data with longer episodes."
        )

    digest = hashlib.sha256()

    def seen(values: np.ndarray) -> None:
        digest.update(values.data)

    transitions = _transitions(columns, rewards, terminals, timeouts, keep, seen)
    _fit_actions(transitions, spec)
    returns, lengths = episode_statistics(rewards, terminals | timeouts)
    info = DatasetInfo(
        name=name,
        path=path,
        fingerprint=digest.hexdigest()[:16],
        rows=len(keep),
        transitions=len(transitions),
        episodes=len(returns),
        terminals=int(terminals.sum()),
        timeouts=int(timeouts.sum()),
        origin=origin,
        terminals_dropped=int((terminals & ~keep).sum()),
        told_by=told_by,
    )
    return Dataset(transitions, info, returns, lengths)


def check_columns(columns: Mapping[str, Column], source: str) -> None:
    """Check shapes and lengths of columns.

    Args:
        columns: Columns by D4RL's names.
        source: File or dataset name, for error messages.

    Raises:
        UserError: A shape is wrong, or lengths differ.
    """
    for key, column in columns.items():
        column.check_shape(matrix=key in MATRICES)
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise UserError(f"{source}: keys differ in their number of rows ({listed}).")


def _check_rows(columns: Mapping[str, Column], source: str) -> None:
    check_columns(columns, source)
    if len(columns["observations"]) == 0:
        raise UserError(f"{source}: it has no rows. Give data that have some.")
    if "next_observations" in columns:
        here, following = columns["observations"].width, columns["next_observations"].width
        if here != following:
            raise UserError(
                f"{source}: 'observations' have {here} numbers per row, 'next_observations' "
                f"{following}; they must be equal."
            )


def _check_sizes(columns: Mapping[str, Column], spec: EnvSpec, source: str) -> None:
    """Compare sizes with the environment's before the slow reading of all rows."""
    for key, expected in (("observations", spec.obs_dim), ("actions", spec.action_dim)):
        if columns[key].width != expected:
            raise UserError(
                f"{source}: '{key}' have {columns[key].width} numbers per row, those of "
                f"environment {spec.id} have {expected}. Take the environment that the data were "
                f"recorded in (--data.env, --data.env_kwargs), or other data (--data.path)."
            )


def _checked_limit(limit: int | None, source: str) -> int:
    if limit is None:
        raise UserError(
            f"{source}: it has no 'timeouts', so where its episodes end must be told. Give the "
            f"environment (--data.env) or max_episode_steps, or write the flags as 'timeouts'."
        )
    check_range("max_episode_steps", limit, limit >= 1, "at least 1")
    return limit


def episode_statistics(rewards: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute returns and lengths of the complete episodes.

    Args:
        rewards: [N] raw rewards.
        ends: [N] bool, the last row of each episode. Rows after the last end are ignored.

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


def _cut_after(timeouts: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """[N] bool: whether the next row was dropped, is missing, or starts another episode."""
    if keep.all():
        cut = timeouts.copy()
        cut[-1] = True
        return cut
    return np.append(~keep[1:], True)


def _transitions(
    columns: Mapping[str, Column],
    rewards: np.ndarray,
    terminals: np.ndarray,
    timeouts: np.ndarray,
    keep: np.ndarray,
    seen: Callable[[np.ndarray], None],
) -> Transitions:
    """Build transitions that store each observation of a file once.

    `keep` ([N] bool) marks rows with a next observation; `seen` gets all data for the fingerprint.
    """
    # Before the large columns are read, so that temporary arrays do not add to the peak memory.
    kept = torch.from_numpy(np.arange(len(keep), dtype=np.int32)[keep])
    truncated = _cut_after(timeouts, keep) & ~terminals
    if "next_observations" in columns:
        observation = columns["observations"].matrix(seen)
        following = columns["next_observations"].matrix(seen)
    else:
        # Two views of one array: row i + 1 is the next observation of row i. The last row, where
        # it is kept, is terminal: its next observation is masked, and any number will do.
        observation = columns["observations"].matrix(seen, spare_rows=1)
        observation[-1] = observation[-2]
        observation, following = observation[:-1], observation[1:]
    action = columns["actions"].matrix(seen)
    for values in (rewards, terminals, timeouts):
        seen(values)
    return Transitions.from_tensors(
        observation=torch.from_numpy(observation),
        action=torch.from_numpy(action),
        next_observation=torch.from_numpy(following),
        reward=torch.from_numpy(rewards),
        terminated=torch.from_numpy(terminals),
        truncated=torch.from_numpy(truncated),
        source=columns["observations"].source,
        kept=None if len(kept) == len(keep) else kept,
    )


def _fit_actions(transitions: Transitions, spec: EnvSpec | None) -> None:
    if spec is not None:
        low, high, space = spec.action_low, spec.action_high, f"environment {spec.id}"
    else:
        high = (1.0,) * transitions.action_dim
        low, space = tuple(-bound for bound in high), "D4RL (no environment was given)"
    transitions.check_actions(low, high, space=space)
    transitions.clip_actions_(low, high)
