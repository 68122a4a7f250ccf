"""The Gaussian policy that all methods share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pex_lightning.nn.mlp import MLP

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


class GaussianPolicy(nn.Module):
    """π(a|s): a Gaussian with a bounded mean and a state-independent standard deviation.

    The mean is `centre + half_width · tanh(net(s))`, so it never leaves the action space;
    `log_std` is a parameter a dimension, clipped to [−5, 2]. The Gaussian is not squashed:
    samples are clipped to the action space before the environment or a critic sees them.

    Args:
        obs_dim: Size of an observation.
        action_low: Lower bound of each action dimension.
        action_high: Upper bound of each action dimension.
        hidden_dims: Sizes of the hidden layers.

    Raises:
        ValueError: The bounds differ in length, or a lower bound is not below its upper bound.
    """

    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_dims: Sequence[int],
    ) -> None:
        super().__init__()
        if len(action_low) != len(action_high):
            raise ValueError(
                f"action_low has {len(action_low)} entries, action_high {len(action_high)}"
            )
        if any(low >= high for low, high in zip(action_low, action_high, strict=True)):
            raise ValueError(f"action_low {action_low} must be below action_high {action_high}")
        self.net = MLP(obs_dim, hidden_dims, len(action_low))
        self.log_std = nn.Parameter(torch.zeros(len(action_low)))
        self.register_buffer("action_low", torch.tensor(action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.tensor(action_high, dtype=torch.float32))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> GaussianPolicy:
        """A policy with the sizes, bounds and parameters of a state dict.

        Raises:
            KeyError, RuntimeError, ValueError: It is not the state dict of such a policy.
        """
        weights = [value for key, value in state.items() if key.endswith(".weight")]
        policy = cls(
            obs_dim=weights[0].shape[1],
            action_low=state["action_low"].tolist(),
            action_high=state["action_high"].tolist(),
            hidden_dims=[weight.shape[0] for weight in weights[:-1]],
        )
        policy.load_state_dict(dict(state))
        return policy

    def mode(self, observation: Tensor) -> Tensor:
        """The most likely action, float32: `[B, obs_dim] -> [B, action_dim]`."""
        raw: Tensor = self.net(observation)
        return self.mode_of(raw)

    def mode_of(self, raw: Tensor) -> Tensor:
        """The most likely action, float32, for an output of the network `[..., action_dim]`."""
        centre = (self.action_high + self.action_low) / 2
        half_width = (self.action_high - self.action_low) / 2
        return centre + half_width * torch.tanh(raw.float())

    def sample(self, observation: Tensor) -> Tensor:
        """A random action clipped to the action space: `[B, obs_dim] -> [B, action_dim]`."""
        return self.perturb(self.mode(observation))

    def perturb(self, mode: Tensor) -> Tensor:
        """A random action around a mode computed before: `[B, action_dim]`, clipped."""
        std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        return self.clip(mode + std * torch.randn_like(mode))

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density, summed over dimensions: `[B, obs_dim], [B, action_dim] -> [B]`."""
        log_std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        z = (action - self.mode(observation)) * torch.exp(-log_std)
        log_density = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)
        return log_density.sum(-1)

    def clip(self, action: Tensor) -> Tensor:
        """Clip actions `[..., action_dim]` to the action space."""
        return torch.clamp(action, self.action_low, self.action_high)
