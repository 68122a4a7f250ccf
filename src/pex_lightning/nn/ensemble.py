"""Several agents in one: their critics and policies as stacked networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pex_lightning.nn.critic import Critic, drawn
from pex_lightning.nn.gaussian import LOG_STD_MAX, LOG_STD_MIN, clipped_sample, log_density
from pex_lightning.nn.mlp import EnsembleMLP
from pex_lightning.nn.policy import Policy


class EnsembleCritic(Critic):
    """The critics of `N` agents, each with `num_q` Q-functions, a target and a V of its own.

    Args:
        size: N.
        obs_dim: Size of an observation.
        action_dim: Size of an action.
        hidden_dims: Sizes of the hidden layers of every network.
        num_q: Number of Q-functions of each agent.
        with_v: Whether there are Vs.
        layer_norm: Whether hidden layers are normalised.
        min_q_of: How many Q-functions of each agent `min_target_q` draws; all by default.

    Raises:
        ValueError: `num_q` is below 1.
    """

    def __init__(
        self,
        size: int,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        num_q: int = 2,
        *,
        with_v: bool = True,
        layer_norm: bool = False,
        min_q_of: int | None = None,
    ) -> None:
        super().__init__(
            obs_dim, action_dim, hidden_dims, num_q * size, with_v=False, layer_norm=layer_norm
        )
        self.size = size
        self.min_q_of = num_q if min_q_of is None else min_q_of
        if with_v:
            v_net = EnsembleMLP(size, obs_dim, hidden_dims, 1, layer_norm=layer_norm)
            self.add_module("v_net", v_net)

    def q(self, observation: Tensor, action: Tensor, *, constant: bool = False) -> Tensor:
        """Q of every agent, float32: `[B, obs_dim], [B, action_dim] -> [num_q, N, B]`.

        With `constant` the critics' parameters get no gradient, while the action may.
        """
        return self._by_agent(super().q(observation, action, constant=constant))

    def target_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Target Q, float32: `[B, obs_dim], [B, action_dim] -> [num_q, N, B]`."""
        return self._by_agent(super().target_q(observation, action))

    def min_target_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Each agent's least target Q, float32: `[B, obs_dim], [B, action_dim] -> [N, B]`.

        Of `min_q_of` Q-functions, drawn anew at every call and the same for all agents and rows.
        """
        q = self.target_q(observation, action)
        if self.min_q_of < q.shape[0]:
            q = q.index_select(0, drawn(self.min_q_of, q.shape[0], q.device))
        return q.amin(0)

    def v(self, observation: Tensor) -> Tensor:
        """State values, float32: `[B, obs_dim] -> [N, B]`."""
        return super().v(observation)

    def _by_agent(self, q: Tensor) -> Tensor:
        return q.view(-1, self.size, q.shape[-1])


class GaussianEnsemble(Policy):
    """`N` Gaussian policies that act as one Gaussian, whose moments are those of their mixture.

    μ = mean μ_i and σ² = mean(μ_i² + σ_i²) − μ² (Off2On, arXiv 2107.00591, section 3.1). Each
    member is as `GaussianPolicy`; samples are clipped to the action space.

    Args:
        size: N.
        obs_dim: Size of an observation.
        action_low: Lower bound of each action dimension.
        action_high: Upper bound of each action dimension.
        hidden_dims: Sizes of the hidden layers.

    Raises:
        ValueError: The bounds differ in length, or a lower bound is not below its upper bound.
    """

    def __init__(
        self,
        size: int,
        obs_dim: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_dims: Sequence[int],
    ) -> None:
        super().__init__(action_low, action_high)
        self.net = EnsembleMLP(size, obs_dim, hidden_dims, len(action_low))
        self.log_std = nn.Parameter(torch.zeros(size, len(action_low)))

    def member_modes(self, observation: Tensor) -> Tensor:
        """The mean of every member, float32: `[B, obs_dim] -> [N, B, action_dim]`."""
        raw: Tensor = self.net(observation)
        return self.centre + self.half_width * torch.tanh(raw.float())

    def member_log_probs(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density of every member: `[B, obs_dim], [B, action_dim] -> [N, B]`."""
        log_std = self._member_log_std()
        return log_density(action, self.member_modes(observation), log_std)

    def moments(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, `[B, obs_dim] -> [B, action_dim], [B, action_dim]`."""
        modes = self.member_modes(observation)
        # The same as the formula above, without its cancellation.
        variance = (2.0 * self._member_log_std()).exp().mean(0) + modes.var(0, correction=0)
        return modes.mean(0), 0.5 * variance.log()

    def mode(self, observation: Tensor) -> Tensor:
        """μ: `[B, obs_dim] -> [B, action_dim]`."""
        return self.member_modes(observation).mean(0)

    def sample(self, observation: Tensor) -> Tensor:
        """A random action clipped to the action space: `[B, obs_dim] -> [B, action_dim]`."""
        return self.rsample(observation)[0]

    def rsample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """A random action through which gradients flow, and its log-density.

        `[B, obs_dim] -> [B, action_dim], [B]`. The action is clipped to the action space; the
        density is that of the sample before it was clipped, so that it has a gradient outside too.
        """
        return clipped_sample(self, *self.moments(observation))

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density of the one Gaussian: `[B, obs_dim], [B, action_dim] -> [B]`."""
        return log_density(action, *self.moments(observation))

    def _member_log_std(self) -> Tensor:
        """Log σ_i, `[N, 1, action_dim]`."""
        return self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).unsqueeze(1)
