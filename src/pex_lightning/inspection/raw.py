"""Raw columns of a dataset, read with bad values tolerated and reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pex_lightning.datasets.arrays import TED_KEYS
from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.datasets.hdf5 import find_column, open_hdf5
from pex_lightning.datasets.rows import MATRICES, OPTIONAL, REQUIRED, derive_timeouts
from pex_lightning.errors import UserError


@dataclass(frozen=True)
class Episodes:
    """Rewards and episode ends of a dataset that may hold bad values.

    Attributes:
        rewards: [N] float32, may hold NaN and infinity.
        terminals: [N] bool.
        timeouts: [N] bool, all false if `timeouts_known` is false.
        timeouts_known: Whether the file has `timeouts` or an episode length was given.
    """

    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    timeouts_known: bool

    @property
    def ends(self) -> np.ndarray:
        """[N] bool, the last row of each episode."""
        ends: np.ndarray = self.terminals | self.timeouts
        return ends


@contextmanager
def open_columns(path: Path) -> Iterator[dict[str, Column]]:
    """Open a file in D4RL's layout and yield its columns.

    Raises:
        UserError: The file cannot be read, lacks a required array, has one of a wrong kind or
            shape, or its arrays differ in length or are empty.
    """
    with open_hdf5(path) as file:
        missing = [key for key in REQUIRED if key not in file]
        if missing:
            raise UserError(f"{path}: the keys {', '.join(missing)} are missing.")
        columns = {
            key: find_column(file, key, path, matrix=key in MATRICES)
            for key in (*REQUIRED, *OPTIONAL)
            if key in file
        }
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1 or not lengths["observations"]:
            listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise UserError(f"{path}: expected arrays of one length above 0, found {listed}.")
        yield columns


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
        problems: Descriptions of bad values are added to this list.
    """
    terminals = _tolerant_flags(columns["terminals"], problems)
    known = True
    if "timeouts" in columns:
        timeouts = _tolerant_flags(columns["timeouts"], problems)
    elif max_episode_steps is not None and max_episode_steps > 0:
        timeouts = derive_timeouts(terminals, max_episode_steps)
    else:
        timeouts, known = np.zeros_like(terminals), False
    rewards = first_numbers(columns["rewards"], 1, problems)[:, 0]
    return Episodes(rewards, terminals, timeouts, known)


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
