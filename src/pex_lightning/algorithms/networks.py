"""The networks of a method: their settings, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import check_range
from pex_lightning.nn.critic import Critic, FrozenQ
from pex_lightning.nn.distributions import DISTRIBUTIONS, AnyPolicy, Distribution


@dataclass(frozen=True)
class Networks:
    """Sizes and kinds of the networks of a method.

    Attributes:
        hidden_dims: Sizes of every network's hidden layers.
        num_q: Number of Q-functions.
        min_q_of: How many of them, drawn at random, give the smallest target value; None for all.
        layer_norm: Whether the critic's hidden layers are normalised.
        distribution: `gaussian` or `squashed_gaussian`.

    Raises:
        UserError: A value is outside of its range.
    """

    hidden_dims: Sequence[int]
    num_q: int
    min_q_of: int | None
    layer_norm: bool
    distribution: Distribution

    def __post_init__(self) -> None:
        fits = all(size > 0 for size in self.hidden_dims)
        check_range("--model.hidden_dims", self.hidden_dims, fits, "all above 0")
        check_range("--model.num_q", self.num_q, self.num_q >= 1, "at least 1")
        fits = self.min_q_of is None or 1 <= self.min_q_of <= self.num_q
        expected = f"between 1 and --model.num_q, {self.num_q}"
        check_range("--model.min_q_of", self.min_q_of, fits, expected)
        known = get_args(Distribution)
        fits = self.distribution in known
        check_range("--model.policy_distribution", self.distribution, fits, " or ".join(known))

    def critic(self, env: EnvSpec, *, with_v: bool = True) -> Critic:
        """A fresh critic."""
        return Critic(
            env.obs_dim,
            env.action_dim,
            self.hidden_dims,
            self.num_q,
            with_v=with_v,
            layer_norm=self.layer_norm,
            min_q_of=self.min_q_of,
        )

    def frozen_q(self, env: EnvSpec) -> FrozenQ:
        """Q-functions of the critic's sizes that do not learn."""
        return FrozenQ(
            env.obs_dim, env.action_dim, self.hidden_dims, self.num_q, layer_norm=self.layer_norm
        )

    def policy(self, env: EnvSpec) -> AnyPolicy:
        """A fresh policy."""
        kind = DISTRIBUTIONS[self.distribution]
        return kind(env.obs_dim, env.action_low, env.action_high, self.hidden_dims)
