"""A dataset's columns as they are: bad values are tolerated and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
    """Where a dataset's episodes end, bad values tolerated.

    Attributes:
        rewards: [N] float32, NaN where they are.
        terminals: [N] bool.
        timeouts: [N] bool, all false if `timeouts_known` is false.
        timeouts_known: Whether the file says them, or an episode length was given.
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
    """Those arrays of a file that D4RL's layout has, while the file is open.

    Raises:
        UserError: The file cannot be read, an array that every D4RL file has is missing, is not a
            plain array of its shape, or arrays differ in length.
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
    """The transitions of a dataset as columns in D4RL's layout, not copied."""
    values = dataset.transitions
    return {
        key: Column(values.source, key, values.tensordict[name].numpy())
        for key, name in TED_KEYS.items()
    }


def read_episodes(
    columns: Mapping[str, Column], max_episode_steps: int | None, problems: list[str]
) -> Episodes:
    """Rewards and ends of episodes, bad values tolerated.

    Args:
        columns: By D4RL's names.
        max_episode_steps: Rows of an episode that times out, if there are no `timeouts`.
        problems: Sentences about what is wrong are added to it.
    """
    terminals = _tolerant_flags(columns["terminals"], problems)
    known = True
    if "timeouts" in columns:
        timeouts = _tolerant_flags(columns["timeouts"], problems)
    elif max_episode_steps is not None and max_episode_steps > 0:
        timeouts = derive_timeouts(terminals, max_episode_steps)
    else:
        timeouts, known = np.zeros_like(terminals), False
    rewards = _tolerant_vector(columns["rewards"], problems)
    return Episodes(rewards, terminals, timeouts, known)


def first_numbers(column: Column, count: int) -> np.ndarray:
    """The first numbers of every row, [N, count] float32, NaN where they are."""
    values = np.empty((len(column), count), dtype=np.float32)
    # The error that tells of bad values comes after the last block.
    with suppress(UserError):
        for start, block in column.blocks():
            values[start : start + len(block)] = block[:, :count]
    return values


def _tolerant_vector(column: Column, problems: list[str]) -> np.ndarray:
    values = np.empty(len(column), dtype=np.float32)
    try:
        for start, block in column.blocks():
            values[start : start + len(block)] = block[:, 0]
    except UserError as error:
        # Raised after the last block: everything has been seen.
        problems.append(str(error))
    return values


def _tolerant_flags(column: Column, problems: list[str]) -> np.ndarray:
    try:
        return column.flags()
    except UserError as error:
        problems.append(str(error))
    flags: np.ndarray = _tolerant_vector(column, []) == 1
    return flags
