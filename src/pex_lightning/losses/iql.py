"""IQL's three losses (arXiv 2110.06169), as pure functions of what the networks said.

With s, a, r, s', d (d = terminated, never truncated), Q̄ the target and sg(·) stop-gradient:

- V: `L_V = mean(|expectile − 1(u < 0)| · u²)`, `u = sg(min_i Q̄_i(s, a)) − V(s)`  (eq. 5)
- Q: `L_Q = ½ Σ_i mean((Q_i(s, a) − r − γ (1 − d) sg(V(s')))²)`  (eq. 6)
- π: `L_π = mean(min(exp(beta · sg(u)), 100) · (−log π(a|s)))`  (eq. 7)

All of them are computed from the networks as they were before the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ADVANTAGE_WEIGHT = 100.0
NEGLIGIBLE_WEIGHT = 0.01
"""Below this weight an action counts as left out of the fit."""


@dataclass(frozen=True)
class ValueLoss:
    """L_V (scalar) and the advantage u it came from, `[B]` and detached."""

    loss: Tensor
    advantage: Tensor


@dataclass(frozen=True)
class QLoss:
    """L_Q (scalar) and the temporal-difference target, `[B]`."""

    loss: Tensor
    td_target: Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """L_π (scalar) and the advantage weights after the cap, `[B]`."""

    loss: Tensor
    weight: Tensor


def value_loss(target_q: Tensor, value: Tensor, expectile: float) -> ValueLoss:
    """Expectile regression of V towards min Q̄ (IQL, eq. 5).

    Args:
        target_q: min_i Q̄_i(s, a), `[B]`, without gradient.
        value: V(s), `[B]`.
        expectile: Between 0 and 1; above ½ V approaches the best actions in the data.
    """
    advantage = target_q - value
    weight = torch.where(advantage < 0, 1.0 - expectile, expectile)
    return ValueLoss((weight * advantage.square()).mean(), advantage.detach())


def q_loss(
    q: Tensor, reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float
) -> QLoss:
    """Squared temporal-difference error of every Q-function (IQL, eq. 6).

    Args:
        q: Q_i(s, a), `[num_q, B]`.
        reward: r, `[B]`.
        terminated: d, `[B]`, bool: true termination only.
        next_value: V(s'), `[B]`, without gradient.
        gamma: Discount.
    """
    td_target = torch.where(terminated, reward, reward + gamma * next_value)
    return QLoss(0.5 * (q - td_target).square().mean(-1).sum(), td_target)


def policy_loss(log_prob: Tensor, advantage: Tensor, beta: float) -> PolicyLoss:
    """Advantage-weighted regression (IQL, eq. 7), the weight capped at 100.

    Args:
        log_prob: log π(a|s), `[B]`.
        advantage: u, `[B]`, without gradient.
        beta: Inverse temperature of the weight.
    """
    weight = torch.exp(beta * advantage).clamp(max=MAX_ADVANTAGE_WEIGHT)
    return PolicyLoss((weight * -log_prob).mean(), weight)


def mean_policy_loss(first: PolicyLoss, second: PolicyLoss) -> PolicyLoss:
    """The mean of two fits of the same policy, with the weights of both, `[2B]`."""
    weight = torch.cat((first.weight, second.weight))
    return PolicyLoss((first.loss + second.loss) / 2, weight)


def diagnostics(q: QLoss, value: ValueLoss, policy: PolicyLoss) -> dict[str, Tensor]:
    """Scalars to log: losses, values, and how the advantage weights are spread."""
    losses = {"q_loss": q.loss.detach(), "v_loss": value.loss.detach()}
    return losses | policy_diagnostics(q, value.advantage, policy)


def policy_diagnostics(q: QLoss, advantage: Tensor, policy: PolicyLoss) -> dict[str, Tensor]:
    """The part of `diagnostics` that methods without V share.

    Args:
        q: L_Q.
        advantage: `[B]`, without gradient.
        policy: L_π.
    """
    return {
        "policy_loss": policy.loss.detach(),
        "td_target": q.td_target.mean(),
        "advantage": advantage.mean(),
        "weight": policy.weight.mean(),
        "weight_at_cap": (policy.weight >= MAX_ADVANTAGE_WEIGHT).float().mean(),
        "weight_near_zero": (policy.weight < NEGLIGIBLE_WEIGHT).float().mean(),
    }
