"""Implicit Q-learning (IQL, arXiv 2110.06169)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError, check_range
from pex_lightning.losses.iql import diagnostics, policy_loss, q_loss, value_loss
from pex_lightning.nn.critic import Critic
from pex_lightning.nn.policy import Policy
from pex_lightning.policies.acting import ActingPolicy, SinglePolicy
from pex_lightning.updates.batch import Batch, Losses


class IQL(Algorithm):
    """Learns from a dataset without ever asking Q about an action outside of it.

    The losses are in `pex_lightning.losses.iql`; the three gradients touch disjoint
    parameters and read the networks as they were before the step, so that one joint backward and
    one Adam are the same update as three.

    Args:
        expectile: IQL's τ, the expectile that V regresses to; 0.9 AntMaze, 0.7 MuJoCo and Adroit.
        beta: Inverse temperature of the advantage weight; 10 AntMaze, 3 MuJoCo, 0.5 Adroit.
        cosine_decay: Whether the actor's learning rate falls to 0 along a cosine over the
            trainer's `max_steps` (offline only in the papers).
        kwargs: As for Algorithm.

    Raises:
        UserError: A value is outside of its range.
    """

    def __init__(
        self,
        expectile: float = 0.7,
        beta: float = 3.0,
        cosine_decay: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_range("--model.expectile", expectile, 0.0 < expectile < 1.0, "between 0 and 1")
        check_range("--model.beta", beta, beta >= 0.0, "0 or more")
        self.expectile = expectile
        self.beta = beta
        self.cosine_decay = cosine_decay

    def build(self, data: DataDescription) -> None:
        """Create the critic and the policy."""
        self.critic: Critic = self.networks.critic(data.env)
        self.policy: Policy = self.networks.policy(data.env)

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q, V and the policy."""
        return {
            "q": self.critic.q_net.parameters(),
            "v": self.critic.v_net.parameters(),
            "actor": self.policy.parameters(),
        }

    def losses(self, batch: Batch) -> Losses:
        """L_V, L_Q and L_π (eqs. 5 to 7) on one batch."""
        critic = self.critic
        with torch.no_grad():
            target_q = critic.min_target_q(batch.observation, batch.action)
            next_value = critic.v(batch.next_observation)
        v = value_loss(target_q, critic.v(batch.observation), self.expectile)
        q_now = critic.q(batch.observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        actor = policy_loss(self.log_prob(batch), v.advantage, self.beta)
        terms = {"q": q.loss, "v": v.loss, "actor": actor.loss}
        return Losses(terms, diagnostics(q, v, actor))

    def log_prob(self, batch: Batch) -> Tensor:
        """Log-density of the batch's actions by the policy that learns, `[B]`."""
        return self.policy.log_prob(batch.observation, batch.action)

    def after_step(self) -> None:
        """Q̄ ← Q̄ + tau · (Q − Q̄)."""
        self.critic.update_target(self.tau)

    def learning_rate_factors(self, step: int) -> Mapping[str, float]:
        """The actor's is ½ (1 + cos(π · step / max_steps)), or 1 without `cosine_decay`."""
        if not self.cosine_decay:
            return {}
        horizon = self.trainer.max_steps
        if horizon <= 0:
            raise UserError(
                f"--trainer.max_steps is {horizon}, but the actor's cosine decay needs a number "
                "of gradient steps to decay over. Set it, or --model.cosine_decay false."
            )
        return {"actor": 0.5 * (1.0 + math.cos(math.pi * min(step, horizon) / horizon))}

    def acting_policy(self) -> ActingPolicy:
        """The policy alone."""
        return SinglePolicy(self.policy)
