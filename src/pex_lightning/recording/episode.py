"""The rows of one recorded episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]
"""Columns `[T, ...]` of equal length by their names in the file."""


def empty_maze_episode(rows: int, obs_dim: int, action_dim: int) -> Columns:
    """Create an episode of zeros, without rewards.

    Its columns are `observations` `[T, obs_dim]`, `actions` `[T, action_dim]` as executed, and
    `infos/goal` `[T, 2]`, the position that the robot was heading for, in metres; all float32.
    """
    return {
        "observations": np.zeros((rows, obs_dim), np.float32),
        "actions": np.zeros((rows, action_dim), np.float32),
        "infos/goal": np.zeros((rows, 2), np.float32),
    }
