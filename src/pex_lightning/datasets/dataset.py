"""A dataset in memory, and what is said of it wherever its results appear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pex_lightning.datasets.transitions import Transitions

Origin = Literal["file", "made", "d4rl", "minari", "arrays"]
"""`file`: the user's own; `made`: recorded by this package; `d4rl`: D4RL's published file, fetched
by its task's name; `minari`: a Minari dataset; `arrays`: handed over in memory."""


@dataclass(frozen=True)
class DatasetInfo:
    """Where transitions come from; written beside results and into checkpoints.

    Attributes:
        name: Short name: a task's, `made:<recipe>`, `minari:<id>`, or the file's without its
            ending.
        path: The file that was read, absolute; a Minari dataset's id; empty for arrays.
        fingerprint: First 16 hexadecimal digits of a SHA-256 over the arrays that were used (as
            float32 or bool), so that it does not depend on how the file is compressed.
        rows: Rows in the file.
        transitions: Transitions kept.
        episodes: Complete episodes in the file: those that end in a terminal or a time-out.
        terminals: Rows with a terminal.
        timeouts: Rows with a time-out, read from the file or derived from the episode length.
        origin: What kind of dataset it is.
    """

    name: str
    path: str
    fingerprint: str
    rows: int
    transitions: int
    episodes: int
    terminals: int
    timeouts: int
    origin: Origin = "file"


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
