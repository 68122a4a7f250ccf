"""Raw columns of a dataset, read with bad values tolerated and reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pex_lightning.datasets.arrays import TED_KEYS
from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.d4rl_reader import read_columns
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.datasets.episode_ends import (
    FLAG_NAMES,
    TERMINAL_NAMES,
    derive_timeouts,
    told_terminals,
    told_timeouts,
)
from pex_lightning.datasets.hdf5 import open_arrays
from pex_lightning.datasets.rows import check_columns
from pex_lightning.errors import UserError


@dataclass(frozen=True)
class Episodes:
    """Rewards and episode ends of a dataset that may hold bad values.

    Attributes:
        rewards: [N] float32, may hold NaN and infinity.
        terminals: [N] bool.
        timeouts: [N] bool, all false if they are unknown.
        timeouts_known: Whether the data tell the time-outs or an episode length was given.
        told_by: The column that tells the time-outs; None if there is none.
    """

    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    timeouts_known: bool
    told_by: str | None

    @property
    def ends(self) -> np.ndarray:
        """[N] bool, the last row of each episode."""
        ends: np.ndarray = self.terminals | self.timeouts
        return ends


@dataclass(frozen=True)
class RawColumns:
    """The columns of a file in D4RL's layout.

    Attributes:
        columns: The columns that are read, by their names.
        unread: The names of all other arrays and groups.
    """

    columns: dict[str, Column]
    unread: tuple[str, ...]


@contextmanager
def open_columns(path: Path) -> Iterator[RawColumns]:
    """Open a file in D4RL's layout and yield its columns.

    Raises:
        UserError: The file cannot be read, lacks a required array, has one of a wrong kind or
            shape, or its arrays differ in length or are empty.
    """
    with open_arrays(path) as file:
        columns = read_columns(file)
        check_columns(columns, str(path))
        if not len(columns["observations"]):
            raise UserError(f"{path}: it has no rows. Give data that have some.")
        yield RawColumns(columns, tuple(sorted(set(file.names()) - set(columns))))


def columns_of(dataset: Dataset) -> dict[str, Column]:
    """Return the transitions of a dataset as columns in D4RL's layout."""
    values = dataset.transitions
    return {
        key: Column(values.source, key, values.tensordict[name].numpy())
        for key, name in TED_KEYS.items()
    }


def read_episodes(
    columns: Mapping[str, Column], max_episode_steps: int | None, problems: list[str]
) -> Episodes:
    """Read rewards and episode ends, tolerating bad values.

    Args:
        columns: Columns by D4RL's names.
        max_episode_steps: Rows of an episode that times out, if there are no `timeouts`.
        problems: Descriptions of bad and of contradictory values are added to this list.
    """
    source = columns["observations"].source
    flags = {
        key: _tolerant_flags(column, problems)
        for key, column in columns.items()
        if key in FLAG_NAMES
    }
    try:
        terminals = told_terminals(flags, source)
        told = told_timeouts(terminals, flags, source)
    except UserError as error:
        problems.append(str(error))
        terminals = next(flags[name] for name in TERMINAL_NAMES if name in flags)
        told = None
    known = True
    if told is not None:
        told_by, timeouts = told
    elif max_episode_steps is not None and max_episode_steps > 0:
        told_by, timeouts = None, derive_timeouts(terminals, max_episode_steps)
    else:
        told_by, timeouts, known = None, np.zeros_like(terminals), False
    rewards = first_numbers(columns["rewards"], 1, problems)[:, 0]
    return Episodes(rewards, terminals, timeouts, known, told_by)


def first_numbers(column: Column, count: int, problems: list[str] | None = None) -> np.ndarray:
    """Read the first `count` numbers of each row, [N, count] float32, tolerating bad values.

    Args:
        column: The column.
        count: Numbers to read per row.
        problems: A description of bad values is added to this list.
    """
    values = np.empty((len(column), count), dtype=np.float32)
    try:
        for start, block in column.blocks():
            values[start : start + len(block)] = block[:, :count]
    except UserError as error:
        # Raised after the last block, when all values have been read.
        if problems is not None:
            problems.append(str(error))
    return values


def _tolerant_flags(column: Column, problems: list[str]) -> np.ndarray:
    try:
        return column.flags()
    except UserError as error:
        problems.append(str(error))
    flags: np.ndarray = first_numbers(column, 1)[:, 0] == 1
    return flags
