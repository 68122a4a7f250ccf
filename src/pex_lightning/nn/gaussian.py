"""The Gaussian policy that all methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pex_lightning.nn.mlp import MLP
from pex_lightning.nn.policy import Policy

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


class GaussianPolicy(Policy):
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

    def __init__(
        self,
        obs_dim: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_dims: Sequence[int],
    ) -> None:
        super().__init__(action_low, action_high)
        self.net = MLP(obs_dim, hidden_dims, len(action_low))
        self.log_std = nn.Parameter(torch.zeros(len(action_low)))

    def mode(self, observation: Tensor) -> Tensor:
        """The most likely action, float32: `[B, obs_dim] -> [B, action_dim]`."""
        raw: Tensor = self.net(observation)
        return self.mode_of(raw)

    def mode_of(self, raw: Tensor) -> Tensor:
        """The most likely action, float32, for an output of the network `[..., action_dim]`."""
        return self.centre + self.half_width * torch.tanh(raw.float())

    def sample(self, observation: Tensor) -> Tensor:
        """A random action clipped to the action space: `[B, obs_dim] -> [B, action_dim]`."""
        mode = self.mode(observation)
        std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        return self.clip(mode + std * torch.randn_like(mode))

    def rsample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """A random action through which gradients flow, and its log-density.

        `[B, obs_dim] -> [B, action_dim], [B]`. The action is clipped to the action space; the
        density is that of the sample before it was clipped, so that it has a gradient outside too.
        """
        log_std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        return clipped_sample(self, self.mode(observation), log_std)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density, summed over dimensions: `[B, obs_dim], [B, action_dim] -> [B]`."""
        log_std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        return log_density(action, self.mode(observation), log_std)


def log_normal(z: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian at `mean + std · z`, summed over the last dimension."""
    log_density = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)
    return log_density.sum(-1)


def log_density(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian at `value`, summed over the last dimension."""
    return log_normal((value - mean) * torch.exp(-log_std), log_std)


def clipped_sample(policy: Policy, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """A sample clipped to the policy's action space, and its log-density before it was clipped.

    Gradients flow through both: `[B, action_dim], [B]`.
    """
    noise = torch.randn_like(mean)
    return policy.clip(mean + log_std.exp() * noise), log_normal(noise, log_std)
