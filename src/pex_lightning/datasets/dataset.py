"""A dataset in memory and the record of its origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pex_lightning.datasets.transitions import Transitions

Origin = Literal["file", "made", "d4rl", "minari", "arrays"]
"""`file`: the user's own; `made`: recorded by this package; `d4rl`: D4RL's published file, fetched
by task name; `minari`: a Minari dataset; `arrays`: arrays in memory."""


@dataclass(frozen=True)
class DatasetInfo:
    """Where transitions come from; stored with results and in checkpoints.

    Attributes:
        name: Task name, `made:<recipe>`, `minari:<id>`, or file name without suffix.
        path: Absolute path of the file, id of a Minari dataset, or empty for arrays.
        fingerprint: First 16 hexadecimal digits of the SHA-256 of the arrays (as float32 or bool),
            independent of file compression.
        rows: Rows in the file.
        transitions: Transitions kept.
        episodes: Episodes that end in a terminal or a time-out.
        terminals: Rows with a terminal.
        timeouts: Rows with a time-out, read from the file or derived from the episode length.
        origin: Kind of dataset.
        terminals_dropped: Terminal rows that are not kept, as D4RL does not keep them.
        told_by: The column that tells where episodes end besides terminals; None if there is none.
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
    terminals_dropped: int = 0
    told_by: str | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual about how the rows were read, one sentence each."""
        remarks = []
        if self.terminals_dropped:
            remarks.append(
                f"{self.terminals_dropped:,} terminal rows that are also time-outs, or the last "
                "row, are left out of this dataset of D4RL's, as d4rl.qlearning_dataset does."
            )
        if self.told_by not in (None, "timeouts"):
            remarks.append(f"Episodes end where '{self.told_by}' says.")
        return tuple(remarks)


@dataclass(frozen=True)
class Dataset:
    """The result of a dataset reader.

    Attributes:
        transitions: The transitions, with raw rewards.
        info: Where they come from.
        episode_returns: [E] float64, raw return of each complete episode, dropped rows included.
        episode_lengths: [E] int64, rows of each complete episode.
    """

    transitions: Transitions
    info: DatasetInfo
    episode_returns: np.ndarray
    episode_lengths: np.ndarray
