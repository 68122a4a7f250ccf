"""AWAC's losses (arXiv 2006.09359), as pure functions of what the networks said.

With s, a, r, s', d (d = terminated, never truncated), Q̄ the target, a' ~ π(s') and a_π ~ π(s):

- Q: `L_Q = ½ Σ_i mean((Q_i(s, a) − y)²)`, `y = r + γ (1 − d) min_i Q̄_i(s', a')`
- π: `L_π = mean(w(A) · (−log π(a|s)))`, `A = min_i Q_i(s, a) − min_i Q_i(s, a_π)`

Sources differ in the weight w. `exponential` is `min(exp(A / λ), 100)`, the form that CORL has and
that PEX's paper shares with IQL. `softmax` is `B · softmax(A / λ)` over the batch of B rows, the
form of the authors' code (rlkit).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pex_lightning.losses.iql import MAX_ADVANTAGE_WEIGHT, PolicyLoss

Weighting = Literal["exponential", "softmax"]


def awac_policy_loss(
    log_prob: Tensor, advantage: Tensor, temperature: float, weighting: Weighting
) -> PolicyLoss:
    """Advantage-weighted maximum likelihood of the batch's actions.

    Args:
        log_prob: log π(a|s), `[B]`.
        advantage: A, `[B]`, without gradient.
        temperature: λ.
        weighting: The form of the weight w.
    """
    if weighting == "exponential":
        weight = torch.exp(advantage / temperature).clamp(max=MAX_ADVANTAGE_WEIGHT)
    else:
        weight = torch.softmax(advantage / temperature, dim=0) * advantage.shape[0]
    return PolicyLoss((weight * -log_prob).mean(), weight)
