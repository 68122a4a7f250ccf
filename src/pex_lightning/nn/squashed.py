"""A Gaussian squashed into the action space by tanh, as SAC has it (arXiv 1812.05905)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pex_lightning.nn.gaussian import log_density, log_normal
from pex_lightning.nn.mlp import MLP
from pex_lightning.nn.policy import Policy

LOG_STD_MIN = -20.0
LOG_STD_MAX = 2.0
_LARGEST_TANH = 1.0 - 1e-6


class SquashedGaussianPolicy(Policy):
    """π(a|s): `centre + half_width · tanh(u)` of a Gaussian u whose mean and deviation depend on s.

    The logarithm of the deviation is clipped to [−20, 2] (SAC's and RLPD's code). Densities are
    those of actions in their own units. An action on the border of the action space, where the
    density has no value, counts as one 10⁻⁶ of the half-width inside of it.

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
        self.net = MLP(obs_dim, hidden_dims, 2 * len(action_low))

    def mode(self, observation: Tensor) -> Tensor:
        """The image of the Gaussian's mean, float32: `[B, obs_dim] -> [B, action_dim]`."""
        out: Tensor = self.net(observation)
        return self.mode_of(out)

    def mode_of(self, raw: Tensor) -> Tensor:
        """The same for an output of the network `[..., 2 · action_dim]`."""
        return self._squashed(raw.float().chunk(2, dim=-1)[0])

    def sample(self, observation: Tensor) -> Tensor:
        """A random action: `[B, obs_dim] -> [B, action_dim]`."""
        mean, log_std = self._mean_and_log_std(observation)
        return self._squashed(mean + log_std.exp() * torch.randn_like(mean))

    def rsample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """A random action through which gradients flow, and its log-density.

        `[B, obs_dim] -> [B, action_dim], [B]`.
        """
        mean, log_std = self._mean_and_log_std(observation)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        return self._squashed(raw), log_normal(noise, log_std) - self._log_slope(raw)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density, summed over dimensions: `[B, obs_dim], [B, action_dim] -> [B]`."""
        mean, log_std = self._mean_and_log_std(observation)
        inside = ((action - self.centre) / self.half_width).clamp(-_LARGEST_TANH, _LARGEST_TANH)
        raw = torch.atanh(inside)
        return log_density(raw, mean, log_std) - self._log_slope(raw)

    def _mean_and_log_std(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        out: Tensor = self.net(observation)
        mean, log_std = out.float().chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def _squashed(self, raw: Tensor) -> Tensor:
        return self.clip(self.centre + self.half_width * torch.tanh(raw))

    def _log_slope(self, raw: Tensor) -> Tensor:
        """Log of the derivative of the squashing, summed: `[B, action_dim] -> [B]`."""
        # log(1 - tanh(u)²), written so that it neither overflows nor cancels.
        log_slope = 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))
        return (log_slope + self.half_width.log()).sum(-1)
