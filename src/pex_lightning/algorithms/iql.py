"""Implicit Q-learning (IQL, arXiv 2110.06169)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.algorithms.checks import check_range
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.losses.iql import (
    MAX_ADVANTAGE_WEIGHT,
    PolicyLoss,
    QLoss,
    ValueLoss,
    policy_loss,
    q_loss,
    value_loss,
)
from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.policy_set import ActingPolicy, SinglePolicy
from pex_lightning.updates.batch import Batch
from pex_lightning.updates.compiled import ClipAlgorithm, CompileChoice


@dataclass(frozen=True)
class IQLLosses:
    """IQL's three losses on one batch."""

    q: QLoss
    value: ValueLoss
    policy: PolicyLoss

    @property
    def total(self) -> Tensor:
        """Their sum: one backward gives each network its own gradient."""
        return self.q.loss + self.value.loss + self.policy.loss

    def diagnostics(self) -> dict[str, Tensor]:
        """Losses, values, and how the advantage weights are spread."""
        weight = self.policy.weight
        return {
            "q_loss": self.q.loss.detach(),
            "v_loss": self.value.loss.detach(),
            "policy_loss": self.policy.loss.detach(),
            "td_target": self.q.td_target.mean(),
            "advantage": self.value.advantage.mean(),
            "weight": weight.mean(),
            "weight_at_cap": (weight >= MAX_ADVANTAGE_WEIGHT).float().mean(),
        }


class IQL(Algorithm):
    """Learns from a dataset without ever asking Q about an action outside of it.

    The losses are in :mod:`pex_lightning.losses.iql`; the three gradients touch disjoint
    parameters and read the networks as they were before the step, so that one joint backward and
    one Adam are the same update as three.

    Args:
        expectile: IQL's τ, the expectile that V regresses to; 0.9 AntMaze, 0.7 MuJoCo and Adroit.
        beta: Inverse temperature of the advantage weight; 10 AntMaze, 3 MuJoCo, 0.5 Adroit.
        gamma: Discount a step.
        tau: Polyak step of the target critic.
        learning_rate: Of Adam, for all networks.
        hidden_dims: Sizes of every network's hidden layers.
        num_q: Number of Q-functions; the smallest value counts.
        cosine_decay: Whether the actor's learning rate falls to 0 along a cosine over the
            trainer's ``max_steps`` (offline only in the papers).
        gradient_clip_val: Largest norm (or value) of the gradient over all networks together;
            off by default.
        gradient_clip_algorithm: Clip by ``norm`` or by ``value``.
        compile_update: Whether to compile the whole update into one function: faster, and equal
            up to rounding; Lightning's hooks between backward and step are not called then.
            ``auto`` does on a GPU, and on a CPU in runs of 100,000 updates or more where there is
            a C++ compiler; there the first 2,000 updates are plain, while another process
            compiles. ``true`` compiles all of them, and waits for that. Settings such as ``beta``
            are compiled in: what a callback makes of them later has no effect.

    Raises:
        UserError: A value is outside of its range.
    """

    def __init__(
        self,
        expectile: float = 0.7,
        beta: float = 3.0,
        gamma: float = 0.99,
        tau: float = 0.005,
        learning_rate: float = 3e-4,
        hidden_dims: Sequence[int] = (256, 256),
        num_q: int = 2,
        cosine_decay: bool = True,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: ClipAlgorithm = "norm",
        compile_update: CompileChoice = "auto",
    ) -> None:
        super().__init__(
            tau=tau,
            learning_rate=learning_rate,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
            compile_update=compile_update,
        )
        hidden_dims = [int(size) for size in hidden_dims]
        check_range("expectile", expectile, 0.0 < expectile < 1.0, "between 0 and 1")
        check_range("beta", beta, beta >= 0.0, "0 or more")
        check_range("gamma", gamma, 0.0 <= gamma <= 1.0, "between 0 and 1")
        check_range("tau", tau, 0.0 < tau <= 1.0, "above 0 and at most 1")
        check_range("learning_rate", learning_rate, learning_rate > 0.0, "above 0")
        check_range("num_q", num_q, num_q >= 1, "at least 1")
        check_range("hidden_dims", hidden_dims, all(h > 0 for h in hidden_dims), "all above 0")
        clip_ok = gradient_clip_val is None or gradient_clip_val > 0.0
        check_range("gradient_clip_val", gradient_clip_val, clip_ok, "above 0")
        self.save_hyperparameters()
        self.hparams["hidden_dims"] = hidden_dims
        self.expectile = expectile
        self.beta = beta
        self.gamma = gamma
        self.hidden_dims = hidden_dims
        self.num_q = num_q
        self.cosine_decay = cosine_decay

    def build(self, data: DataDescription) -> None:
        """Create the critic and the policy."""
        self.critic = self.new_critic(data)
        self.policy = self.new_policy(data)

    def new_critic(self, data: DataDescription) -> Critic:
        """A fresh critic of this module's sizes."""
        env = data.env
        return Critic(env.obs_dim, env.action_dim, self.hidden_dims, self.num_q)

    def new_policy(self, data: DataDescription) -> GaussianPolicy:
        """A fresh policy of this module's sizes."""
        env = data.env
        return GaussianPolicy(env.obs_dim, env.action_low, env.action_high, self.hidden_dims)

    def learner(self) -> GaussianPolicy:
        """The policy that learns."""
        return self.policy

    def actor_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the policy that learns."""
        return self.learner().parameters()

    def acting_policy(self) -> ActingPolicy:
        """The learning policy alone."""
        return SinglePolicy(self.policy)

    def actor_learning_rate(self, step: int) -> float:
        """½ (1 + cos(π · step / max_steps)), or 1 without ``cosine_decay``."""
        if not self.cosine_decay:
            return 1.0
        horizon = self.trainer.max_steps
        if horizon <= 0:
            raise UserError(
                f"--trainer.max_steps is {horizon}, but the actor's cosine decay needs a number "
                "of gradient steps to decay over. Set it, or --model.cosine_decay false."
            )
        return 0.5 * (1.0 + math.cos(math.pi * min(step, horizon) / horizon))

    def losses(self, batch: Batch) -> IQLLosses:
        """L_V, L_Q and L_π on one batch."""
        with torch.no_grad():
            target_q = self.critic.target_q(batch.observation, batch.action).amin(0)
            next_value = self.critic.v(batch.next_observation)
        value = self.critic.v(batch.observation)
        q = self.critic.q(batch.observation, batch.action)
        value_term = value_loss(target_q, value, self.expectile)
        action, advantage = self.policy_target(batch, value.detach(), value_term.advantage)
        log_prob = self.learner().log_prob(batch.observation, action)
        return IQLLosses(
            q_loss(q, batch.reward, batch.terminated, next_value, self.gamma),
            value_term,
            policy_loss(log_prob, advantage, self.beta),
        )

    def policy_target(
        self, batch: Batch, value: Tensor, advantage: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Actions ``[B, action_dim]`` to imitate and their advantages ``[B]``: the batch's own."""
        del value
        return batch.action, advantage
