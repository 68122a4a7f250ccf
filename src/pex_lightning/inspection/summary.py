"""Summary of a dataset from its raw columns, so that a dataset with errors can be described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset, DatasetInfo
from pex_lightning.datasets.episode_ends import FLAG_NAMES, rows_to_keep
from pex_lightning.datasets.rows import episode_statistics
from pex_lightning.errors import UserError
from pex_lightning.inspection.ranges import (
    ActionSpace,
    ActionUse,
    Numbers,
    read_ranges,
    unit_space,
)
from pex_lightning.inspection.raw import columns_of, open_columns, read_episodes

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Probabilities of the reported quantiles over episodes; 0 and 1 are minimum and maximum."""

MAX_LEVELS = 8
"""Rewards with more distinct values than this are not listed one by one."""


@dataclass(frozen=True)
class Level:
    """A distinct value and its frequency.

    Attributes:
        value: The value.
        rows: Number of rows with this value.
    """

    value: float
    rows: int


@dataclass(frozen=True)
class Summary:
    """Statistics of a dataset, over all rows and without clipping.

    Attributes:
        info: The reader's description; None if the reader raises an error.
        refused: The reader's error message; None if there is no error.
        problems: Further problems, one sentence each.
        rows: Number of rows.
        transitions: Rows that the reader keeps, or would keep without problems.
        dropped_timeouts: Rows dropped because a time-out leaves them without next observation.
        dropped_last: Whether the last row is dropped although it has no time-out.
        dropped_terminals: Terminal rows among the dropped ones.
        episodes: Number of complete episodes.
        incomplete_rows: Rows after the end of the last complete episode.
        terminals: Rows with a terminal.
        timeouts: Rows with a time-out; None if unknown.
        timeouts_derived: Whether time-outs were derived from an episode length.
        told_by: The column that tells the time-outs; None if there is none.
        unread: Names of arrays and groups of the file that are not read.
        has_next: Whether there are `next_observations`.
        returns: Quantiles at `SHARES` of complete episodes' raw returns; empty if there are none.
        lengths: Quantiles at `SHARES` of complete episodes' rows; empty if there are none.
        single_rows: Number of complete episodes of one row.
        observations: [obs_dim] ranges.
        actions: [act_dim] ranges.
        rewards: Range of the raw rewards.
        reward_levels: Distinct rewards, ascending; empty if there are more than `MAX_LEVELS`.
        action_use: Position of the actions in their space.
        float32_bytes: Size of all columns, with numbers as float32 and flags as bytes.
    """

    info: DatasetInfo | None
    refused: str | None
    problems: tuple[str, ...]
    rows: int
    transitions: int
    dropped_timeouts: int
    dropped_last: bool
    dropped_terminals: int
    episodes: int
    incomplete_rows: int
    terminals: int
    timeouts: int | None
    timeouts_derived: bool
    told_by: str | None
    unread: tuple[str, ...]
    has_next: bool
    returns: tuple[float, ...]
    lengths: tuple[float, ...]
    single_rows: int
    observations: tuple[Numbers, ...]
    actions: tuple[Numbers, ...]
    rewards: Numbers
    reward_levels: tuple[Level, ...]
    action_use: ActionUse | None
    float32_bytes: int


def summarise_file(
    path: Path,
    read: Callable[[], Dataset],
    *,
    space: ActionSpace | None = None,
    max_episode_steps: int | None = None,
    as_published: bool = False,
) -> Summary:
    """Summarise a file in D4RL's layout.

    Args:
        path: The file.
        read: Reads the same file like training does.
        space: The action space, by default the reader's, [−1, 1].
        max_episode_steps: Rows of an episode that times out, for a file without `timeouts`.
        as_published: As for `read_d4rl`.

    Raises:
        UserError: The file cannot be read, or lacks a required array.
    """
    info, refused = None, None
    try:
        # The transitions are not kept, so that their memory is free for the columns.
        info = read().info
    except UserError as error:
        refused = str(error)
    try:
        with open_columns(path) as found:
            summary = summarise_columns(
                found.columns,
                info=info,
                refused=refused,
                space=space,
                max_episode_steps=max_episode_steps,
                as_published=as_published,
            )
            return replace(summary, unread=found.unread)
    except UserError as error:
        # The reader's message is more detailed.
        raise UserError(refused or str(error)) from error


def summarise_dataset(dataset: Dataset, *, space: ActionSpace | None = None) -> Summary:
    """Summarise a dataset without a file, from its transitions.

    Args:
        dataset: The dataset.
        space: The action space, by default [−1, 1].
    """
    summary = summarise_columns(columns_of(dataset), info=dataset.info, refused=None, space=space)
    # Only the reader knows where the recorded episodes ended.
    return replace(
        summary,
        episodes=dataset.info.episodes,
        incomplete_rows=len(dataset.transitions) - int(dataset.episode_lengths.sum()),
        terminals=dataset.info.terminals,
        timeouts=dataset.info.timeouts,
        returns=_quantiles(dataset.episode_returns),
        lengths=_quantiles(dataset.episode_lengths),
        single_rows=int((dataset.episode_lengths == 1).sum()),
    )


def summarise_columns(
    columns: Mapping[str, Column],
    *,
    info: DatasetInfo | None,
    refused: str | None,
    space: ActionSpace | None = None,
    max_episode_steps: int | None = None,
    as_published: bool = False,
) -> Summary:
    """Summarise columns in D4RL's layout.

    Args:
        columns: Columns by D4RL's names, of one length.
        info: The reader's description.
        refused: The reader's error message.
        space: The action space, by default [−1, 1].
        max_episode_steps: Rows of an episode that times out, if there are no `timeouts`.
        as_published: As for `read_d4rl`.
    """
    size = len(columns["observations"])
    problems: list[str] = []
    episodes = read_episodes(columns, max_episode_steps, problems)
    ends = np.flatnonzero(episodes.ends)
    has_next = "next_observations" in columns
    dropped = ~rows_to_keep(
        episodes.terminals, episodes.timeouts, has_next=has_next, as_published=as_published
    )
    dropped_last = bool(dropped[-1]) and not bool(episodes.timeouts[-1])
    observations, _ = read_ranges(columns["observations"], None, problems)
    actions, use = read_ranges(
        columns["actions"], space or unit_space(columns["actions"]), problems
    )
    rewards, _ = read_ranges(replace(columns["rewards"], values=episodes.rewards), None, [])
    if has_next:
        read_ranges(columns["next_observations"], None, problems)
    returns, lengths = episode_statistics(episodes.rewards, episodes.ends)
    return Summary(
        info=info,
        refused=refused,
        problems=tuple(problem for problem in problems if problem != refused),
        rows=size,
        transitions=size - int(dropped.sum()),
        dropped_timeouts=int((dropped & episodes.timeouts).sum()),
        dropped_last=dropped_last,
        dropped_terminals=int((dropped & episodes.terminals).sum()),
        episodes=len(ends),
        incomplete_rows=size - (int(ends[-1]) + 1 if len(ends) else 0),
        terminals=int(episodes.terminals.sum()),
        timeouts=int(episodes.timeouts.sum()) if episodes.timeouts_known else None,
        timeouts_derived=episodes.timeouts_known and episodes.told_by is None,
        told_by=episodes.told_by,
        unread=(),
        has_next=has_next,
        returns=_quantiles(returns),
        lengths=_quantiles(lengths),
        single_rows=int((lengths == 1).sum()),
        observations=observations,
        actions=actions,
        rewards=rewards[0],
        reward_levels=_levels(episodes.rewards),
        action_use=use,
        float32_bytes=_float32_bytes(columns),
    )


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    finite = values[np.isfinite(values)]
    return tuple(np.quantile(finite, SHARES).tolist()) if len(finite) else ()


def _levels(rewards: np.ndarray) -> tuple[Level, ...]:
    values, counts = np.unique(rewards[np.isfinite(rewards)], return_counts=True)
    if len(values) > MAX_LEVELS:
        return ()
    return tuple(Level(float(value), int(n)) for value, n in zip(values, counts, strict=True))


def _float32_bytes(columns: Mapping[str, Column]) -> int:
    return sum(
        len(column) * column.width * (1 if key in FLAG_NAMES else 4)
        for key, column in columns.items()
    )
