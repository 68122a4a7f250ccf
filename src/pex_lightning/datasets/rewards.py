"""Reward transforms, applied to offline and online rewards but not in evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import torch

from pex_lightning.errors import UserError

RewardTransformName = Literal["identity", "subtract_one", "scale_by_return_range"]

RETURN_RANGE = 1000.0
"""Range of episode returns after `scale_by_return_range`."""

Reward = TypeVar("Reward", torch.Tensor, np.ndarray, float)


@dataclass(frozen=True)
class RewardTransform:
    """The affine transform r ↦ scale · r + shift.

    Attributes:
        scale: Factor, finite and not 0.
        shift: Added after scaling.

    Raises:
        UserError: `scale` is 0, or a value is not finite.
    """

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.shift)) or self.scale == 0:
            raise UserError(
                f"reward transform: scale {self.scale:g} and shift {self.shift:g} must be finite, "
                f"and scale must not be 0."
            )

    def __call__(self, reward: Reward) -> Reward:
        """Return transformed rewards, of any shape."""
        return reward * self.scale + self.shift

    def inverse(self, reward: Reward) -> Reward:
        """Return raw rewards for transformed ones, of any shape."""
        return (reward - self.shift) / self.scale

    def to_dict(self) -> dict[str, float]:
        """Return scale and shift, for a checkpoint."""
        return {"scale": float(self.scale), "shift": float(self.shift)}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> RewardTransform:
        """Build the transform from the result of `to_dict`.

        Raises:
            UserError: The keys are not `scale` and `shift`.
        """
        if set(values) != {"scale", "shift"}:
            raise UserError(
                f"reward transform: found the keys {sorted(values)}, expected ['scale', 'shift']."
            )
        return cls(scale=float(values["scale"]), shift=float(values["shift"]))


def make_reward_transform(
    name: RewardTransformName, episode_returns: np.ndarray
) -> RewardTransform:
    """Build a reward transform from its name and the offline dataset.

    IQL (arXiv 2110.06169) uses `subtract_one` (r − 1) for AntMaze and `scale_by_return_range`
    (r · 1000 / (max − min) of the episode returns) for MuJoCo.

    Args:
        name: The transform's name.
        episode_returns: [E] raw returns of complete episodes, for `scale_by_return_range`.

    Raises:
        UserError: The name is unknown, or the range of returns is not above 0.
    """
    if name == "identity":
        return RewardTransform()
    if name == "subtract_one":
        return RewardTransform(shift=-1.0)
    if name == "scale_by_return_range":
        return RewardTransform(scale=RETURN_RANGE / _return_range(episode_returns))
    raise UserError(
        f"reward transform: found {name!r}, expected one of {list(get_args(RewardTransformName))}."
    )


def _return_range(episode_returns: np.ndarray) -> float:
    advice = "Use identity or subtract_one, or a dataset whose episodes differ in return."
    if len(episode_returns) == 0:
        raise UserError(
            "reward transform scale_by_return_range: the dataset has no complete episode, so it "
            f"has no range of returns to divide by. {advice}"
        )
    low, high = float(np.min(episode_returns)), float(np.max(episode_returns))
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        raise UserError(
            f"reward transform scale_by_return_range: the {len(episode_returns)} episode returns "
            f"go from {low:g} to {high:g}, expected a range larger than 0. {advice}"
        )
    return high - low
