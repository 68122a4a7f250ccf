"""The rows of one recorded episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Episode:
    """Rows of one recorded episode, without rewards.

    Attributes:
        observations: `[T, obs_dim]` float32.
        actions: `[T, action_dim]` float32, as executed.
        goals: `[T, 2]` float32, the position that the robot was heading for, in metres.
    """

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    goals: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, rows: int, obs_dim: int, action_dim: int) -> Episode:
        """Create an episode of zeros."""
        return cls(
            observations=np.zeros((rows, obs_dim), np.float32),
            actions=np.zeros((rows, action_dim), np.float32),
            goals=np.zeros((rows, 2), np.float32),
        )
