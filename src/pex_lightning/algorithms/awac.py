"""Advantage-weighted actor-critic (AWAC, arXiv 2006.09359), offline and online."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import nn

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import check_range
from pex_lightning.handover.checkpoint import Checkpoint, Part
from pex_lightning.losses.awac import Weighting, awac_policy_loss
from pex_lightning.losses.iql import policy_diagnostics, q_loss
from pex_lightning.nn.distributions import take_policy
from pex_lightning.policies.acting import ActingPolicy, SinglePolicy
from pex_lightning.updates.batch import Batch, Losses


class AWAC(Algorithm):
    """Learns from a dataset: Q by what the policy would do next, the policy by advantage weights.

    The losses are in `pex_lightning.losses.awac`; both read the networks as they were before the
    step. Networks and batch are those of the other methods, for comparison; the authors' own code
    has larger ones. Q has no state value V beside it.

    Args:
        temperature: AWAC's λ. 1 here, as PEX's paper shares it with IQL's form; CORL has 0.1 for
            AntMaze and Adroit and 1/3 for MuJoCo, the authors' code 2 for MuJoCo and 0.5 for
            Adroit, with `softmax`.
        weighting: `exponential`, capped at 100 (CORL), or `softmax` over the batch (the authors).
        kwargs: As for Algorithm.

    Raises:
        UserError: A value is outside of its range.
    """

    def __init__(
        self, temperature: float = 1.0, weighting: Weighting = "exponential", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_range("--model.temperature", temperature, temperature > 0.0, "above 0")
        known = get_args(Weighting)
        check_range("--model.weighting", weighting, weighting in known, " or ".join(known))
        self.temperature = temperature
        self.weighting: Weighting = weighting

    def build(self, data: DataDescription) -> None:
        """Create the critic, without V, and the policy."""
        self.critic = self.networks.critic(data.env, with_v=False)
        self.policy = self.networks.policy(data.env)

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q and the policy."""
        return {"q": self.critic.q_net.parameters(), "actor": self.policy.parameters()}

    def losses(self, batch: Batch) -> Losses:
        """L_Q and L_π on one batch."""
        critic, policy = self.critic, self.policy
        with torch.no_grad():
            next_action = policy.sample(batch.next_observation)
            next_value = critic.min_target_q(batch.next_observation, next_action)
        q_now = critic.q(batch.observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        with torch.no_grad():
            own_action = policy.sample(batch.observation)
            advantage = q_now.amin(0) - critic.q(batch.observation, own_action).amin(0)
        log_prob = policy.log_prob(batch.observation, batch.action)
        actor = awac_policy_loss(log_prob, advantage, self.temperature, self.weighting)
        diagnostics = policy_diagnostics(q, advantage, actor)
        terms = {"q": q.loss, "actor": actor.loss}
        return Losses(terms, {"q_loss": q.loss.detach(), **diagnostics})

    def after_step(self) -> None:
        """Q̄ ← Q̄ + tau · (Q − Q̄)."""
        self.critic.update_target(self.tau)

    def acting_policy(self) -> ActingPolicy:
        """The policy alone."""
        return SinglePolicy(self.policy)


class OnlineAWAC(AWAC):
    """AWAC that goes on from its own offline stage, on a mix with what its policy collects."""

    takes = frozenset[Part](("q", "target", "policy", "moments"))
    acts = True

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Everything goes on where the offline stage left it, with its moments."""
        (offline,) = given
        self.critic.q_net.load_state_dict(offline.part("q"))
        self.critic.target_q_net.load_state_dict(offline.part("target"))
        take_policy(self.policy, offline.part("policy"))
        self.continue_moments(offline, *self.groups())
