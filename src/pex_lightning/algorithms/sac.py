"""Soft actor-critic (SAC, arXiv 1812.05905), on a mix of offline and online rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import check_range
from pex_lightning.handover.checkpoint import PLACES, Part
from pex_lightning.losses.iql import q_loss
from pex_lightning.losses.sac import (
    SACPolicyLoss,
    sac_diagnostics,
    sac_policy_loss,
    soft_value,
    temperature_loss,
)
from pex_lightning.nn.distributions import Distribution
from pex_lightning.nn.entropy_weight import EntropyWeight
from pex_lightning.policies.acting import ActingPolicy, SinglePolicy
from pex_lightning.updates.batch import Batch, Losses

ActorValue = Literal["mean", "min"]


class SAC(Algorithm):
    """A policy that maximises value and entropy, learning from a mix of offline and online rows.

    It starts from nothing. The losses are in `pex_lightning.losses.sac`; all read the networks as
    they were before the step.

    Attributes:
        has_v: Whether the critic has a V.

    Args:
        entropy_weight: α at first; it learns from there.
        target_entropy: Entropy of the policy for each dimension of the action, in nats with actions
            scaled to [−1, 1], at which α holds it; −1 in SAC, −½ in RLPD.
        entropy_in_backup: Whether TD targets count the entropy of the next action.
        actor_value: What the policy maximises: the `mean` of all Q-functions (RLPD) or their `min`
            (SAC).
        policy_distribution: As for Algorithm; `squashed_gaussian` is SAC's.
        kwargs: As for Algorithm.

    Raises:
        UserError: A value is outside of its range.
    """

    acts = True
    has_v: ClassVar[bool] = False
    places: ClassVar[Mapping[Part, str]] = {**PLACES, "temperature": "alpha."}

    def __init__(
        self,
        entropy_weight: float = 1.0,
        target_entropy: float = -1.0,
        entropy_in_backup: bool = True,
        actor_value: ActorValue = "min",
        policy_distribution: Distribution = "squashed_gaussian",
        **kwargs: Any,
    ) -> None:
        super().__init__(policy_distribution=policy_distribution, **kwargs)
        fits = entropy_weight > 0.0
        check_range("--model.entropy_weight", entropy_weight, fits, "above 0")
        known = get_args(ActorValue)
        check_range("--model.actor_value", actor_value, actor_value in known, " or ".join(known))
        self.entropy_weight = entropy_weight
        self.target_entropy = target_entropy
        self.entropy_in_backup = entropy_in_backup
        self.actor_value = actor_value

    def build(self, data: DataDescription) -> None:
        """Create the critic, the policy and α."""
        self.critic = self.networks.critic(data.env, with_v=self.has_v)
        self.policy = self.networks.policy(data.env)
        self.alpha = EntropyWeight(self.entropy_weight)
        # The target counts in units of the action space's half-widths; densities do not.
        half_width = self.policy.half_width
        self.target_nats = float((self.target_entropy + half_width.log()).sum())

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q, the policy and α."""
        return {
            "q": self.critic.q_net.parameters(),
            "actor": self.policy.parameters(),
            "temperature": self.alpha.parameters(),
        }

    def losses(self, batch: Batch) -> Losses:
        """L_Q, L_π and L_α on one batch."""
        critic, alpha = self.critic, self.alpha()
        with torch.no_grad():
            next_action, next_log_prob = self.policy.rsample(batch.next_observation)
            next_q = critic.min_target_q(batch.next_observation, next_action)
            entropy = self.entropy_in_backup
            next_value = soft_value(next_q, next_log_prob, alpha, entropy=entropy)
        q_now = critic.q(batch.observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        actor = self.actor_loss(batch, alpha)
        temperature = temperature_loss(alpha, actor.entropy, self.target_nats)
        terms = {"q": q.loss, "actor": actor.loss, "temperature": temperature}
        return Losses(terms, sac_diagnostics(q, actor, alpha))

    def actor_loss(self, batch: Batch, alpha: Tensor) -> SACPolicyLoss:
        """L_π, with the critic's parameters as constants."""
        action, log_prob = self.policy.rsample(batch.observation)
        values = self.critic.q(batch.observation, action, constant=True)
        value = values.mean(0) if self.actor_value == "mean" else values.amin(0)
        return sac_policy_loss(value, log_prob, alpha.detach())

    def after_step(self) -> None:
        """Q̄ ← Q̄ + tau · (Q − Q̄)."""
        self.critic.update_target(self.tau)

    def acting_policy(self) -> ActingPolicy:
        """The policy alone."""
        return SinglePolicy(self.policy)
