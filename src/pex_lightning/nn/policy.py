"""What every random policy over a bounded action space offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Policy(nn.Module, ABC):
    """π(a|s) over a box of actions.

    Args:
        action_low: Lower bound of each action dimension.
        action_high: Upper bound of each action dimension.

    Raises:
        ValueError: The bounds differ in length, or a lower bound is not below its upper bound.
    """

    action_low: Tensor
    action_high: Tensor

    def __init__(self, action_low: Sequence[float], action_high: Sequence[float]) -> None:
        super().__init__()
        if len(action_low) != len(action_high):
            raise ValueError(
                f"action_low has {len(action_low)} entries, action_high {len(action_high)}"
            )
        if any(low >= high for low, high in zip(action_low, action_high, strict=True)):
            raise ValueError(f"action_low {action_low} must be below action_high {action_high}")
        self.register_buffer("action_low", torch.tensor(action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.tensor(action_high, dtype=torch.float32))

    @property
    def centre(self) -> Tensor:
        """The middle of the action space, `[action_dim]`."""
        return (self.action_high + self.action_low) / 2

    @property
    def half_width(self) -> Tensor:
        """Half of the action space's extent, `[action_dim]`."""
        return (self.action_high - self.action_low) / 2

    @abstractmethod
    def mode(self, observation: Tensor) -> Tensor:
        """The action without noise, float32: `[B, obs_dim] -> [B, action_dim]`."""

    @abstractmethod
    def sample(self, observation: Tensor) -> Tensor:
        """A random action within the action space: `[B, obs_dim] -> [B, action_dim]`."""

    @abstractmethod
    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density, summed over dimensions: `[B, obs_dim], [B, action_dim] -> [B]`."""

    @abstractmethod
    def rsample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """A random action through which gradients flow, and its log-density.

        `[B, obs_dim] -> [B, action_dim], [B]`; the action lies within the action space.
        """

    def clip(self, action: Tensor) -> Tensor:
        """Clip actions `[..., action_dim]` to the action space."""
        return torch.clamp(action, self.action_low, self.action_high)
