"""Policy Expansion (PEX, arXiv 2302.00935)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from pex_lightning.algorithms.expansion import Expansion
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import check_range
from pex_lightning.losses.iql import diagnostics, policy_loss, q_loss, value_loss
from pex_lightning.policies.admission import Admission
from pex_lightning.policies.choice import Boltzmann
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.values import SmallestQ
from pex_lightning.updates.batch import Batch, Losses


class PEX(Expansion):
    """Keeps the offline policy π_β frozen and learns a new one, π_θ, beside it.

    At every step both propose an action, clipped to the action space, and
    P(i|s) = softmax_i(inv_temperature · min_k Q_k(s, a_i)) chooses (PEX, eq. 5). Q and V go on
    with IQL's losses from where the offline stage left them. π_θ is fitted to what the composite
    policy would do now: ã ~ composite(s), L_π with a = ã and u = min Q̄(s, ã) − V(s) (eq. 7).

    A fresh π_θ proposes actions that an offline critic has never seen and often overrates, so that
    the composite policy can fall far below π_β before online data correct it. With
    `admission_steps` above 0 π_θ is admitted to the choice gradually: with probability
    λ = min(1, step / admission_steps) all members are candidates, otherwise the frozen ones alone.
    At the hand-over the composite policy then is π_β; π_θ first learns what π_β does, and from
    `admission_steps` on the choice is the paper's. 0 is the paper from the start.

    Call `hand_over` with an offline checkpoint before training; resuming needs only the
    online checkpoint.

    `train_offline_policy` is the paper's ablation in which π_β is fine-tuned as well: by IQL's L_π
    on the batch's own actions, so that it remains a policy of its own.

    Args:
        inv_temperature: PEX's α, inverse temperature of the choice; 10 AntMaze, 3 MuJoCo.
        eval_epsilon: In evaluation, the probability with which π_θ's mode, and independently the
            best choice, is replaced by a sample.
        admission_steps: Gradient steps over which π_θ is admitted to the choice; 0 at once.
        train_offline_policy: Whether π_β learns too; off in the paper.
        kwargs: As for Expansion.

    Raises:
        UserError: A value is outside of its range.
    """

    composite: CompositePolicy

    def __init__(
        self,
        inv_temperature: float = 3.0,
        eval_epsilon: float = 0.1,
        admission_steps: int = 0,
        train_offline_policy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fits = inv_temperature >= 0.0
        check_range("--model.inv_temperature", inv_temperature, fits, "0 or more")
        fits = 0.0 <= eval_epsilon <= 1.0
        check_range("--model.eval_epsilon", eval_epsilon, fits, "between 0 and 1")
        check_range("--model.admission_steps", admission_steps, admission_steps >= 0, "0 or more")
        self.inv_temperature = inv_temperature
        self.eval_epsilon = eval_epsilon
        self.admission_steps = admission_steps
        self.train_offline_policy = train_offline_policy

    def build(self, data: DataDescription) -> None:
        """Create the critic, Π = [π_β, π_θ] and the composite policy over it."""
        super().build(data)
        self.policies.train_frozen(self.train_offline_policy)
        self.admission = Admission(Boltzmann(self.inv_temperature))
        composite = CompositePolicy(
            self.policies, SmallestQ(self.critic), self.admission, self.eval_epsilon
        )
        self.hold_unregistered("composite", composite)

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q, V and π_θ; π_β where it learns too."""
        groups = super().groups()
        if self.train_offline_policy:
            return {**groups, "offline_actor": self.offline_policy.parameters()}
        return groups

    def losses(self, batch: Batch) -> Losses:
        """IQL's L_V and L_Q on one batch; L_π on what the composite policy would do there now."""
        critic, observation = self.critic, batch.observation
        with torch.no_grad():
            target_q = critic.target_q(observation, batch.action).amin(0)
            next_value = critic.v(batch.next_observation)
        value = critic.v(observation)
        v = value_loss(target_q, value, self.expectile)
        q_now = critic.q(observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        with torch.no_grad():
            memory = self.composite.initial_memory(observation)
            action = self.composite.act(observation, memory).action
            advantage = critic.target_q(observation, action).amin(0) - value
        log_prob = self.policies.learner.log_prob(observation, action)
        actor = policy_loss(log_prob, advantage, self.beta)
        terms = {"q": q.loss, "v": v.loss, "actor": actor.loss}
        if self.train_offline_policy:
            log_prob = self.offline_policy.log_prob(observation, batch.action)
            terms["offline_actor"] = policy_loss(log_prob, v.advantage, self.beta).loss
        return Losses(terms, diagnostics(q, v, actor))

    def follow(self, step: int) -> None:
        """Admit π_θ a little further: λ = min(1, step / admission_steps)."""
        share = 1.0 if step >= self.admission_steps else step / self.admission_steps
        self.admission.share.fill_(share)

    def acting_policy(self) -> CompositePolicy:
        """The composite policy over Π."""
        return self.composite
