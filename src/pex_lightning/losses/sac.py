"""SAC's losses (arXiv 1812.05905), as pure functions of what the networks said.

With s, a, r, s', d (d = terminated, never truncated), Q̄ the target, a' ~ π(s'), a_π ~ π(s) through
which gradients flow, α the entropy's weight and H the target entropy:

- Q: `L_Q = ½ Σ_i mean((Q_i(s, a) − y)²)`, `y = r + γ (1 − d) (min Q̄(s', a') − α log π(a'|s'))`
  (eqs. 5 and 6; the loss is `pex_lightning.losses.iql.q_loss` with that value of the next state)
- π: `L_π = mean(α log π(a_π|s) − Q(s, a_π))`  (eq. 9)
- α: `L_α = mean(α · (−log π(a_π|s) − H))`  (eq. 17)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pex_lightning.losses.iql import QLoss


@dataclass(frozen=True)
class SACPolicyLoss:
    """L_π (scalar) and the mean of −log π(a_π|s), detached."""

    loss: Tensor
    entropy: Tensor


def soft_value(next_q: Tensor, next_log_prob: Tensor, alpha: Tensor, *, entropy: bool) -> Tensor:
    """Value of the next state in a TD target, `[B]`.

    Args:
        next_q: min Q̄(s', a'), `[B]`, without gradient.
        next_log_prob: log π(a'|s'), `[B]`, without gradient.
        alpha: α, a scalar without gradient.
        entropy: Whether the entropy counts; RLPD (arXiv 2302.02948) leaves it out for AntMaze.
    """
    return next_q - alpha * next_log_prob if entropy else next_q


def sac_policy_loss(q: Tensor, log_prob: Tensor, alpha: Tensor) -> SACPolicyLoss:
    """Value and entropy of the policy's own actions.

    Args:
        q: Q(s, a_π), `[B]`, with gradient for the action alone.
        log_prob: log π(a_π|s), `[B]`.
        alpha: α, a scalar without gradient.
    """
    return SACPolicyLoss((alpha * log_prob - q).mean(), -log_prob.detach().mean())


def temperature_loss(alpha: Tensor, entropy: Tensor, target: float) -> Tensor:
    """Lowers α where the policy is more random than the target, and raises it where it is less.

    Args:
        alpha: α, a scalar with gradient.
        entropy: Mean of −log π(a_π|s), a scalar without gradient.
        target: H, in nats.
    """
    return alpha * (entropy - target)


def sac_diagnostics(q: QLoss, actor: SACPolicyLoss, alpha: Tensor) -> dict[str, Tensor]:
    """Scalars to log: losses, the target, the policy's entropy and its weight."""
    return {
        "q_loss": q.loss.detach(),
        "policy_loss": actor.loss.detach(),
        "td_target": q.td_target.mean(),
        "entropy": actor.entropy,
        "entropy_weight": alpha.detach(),
    }
