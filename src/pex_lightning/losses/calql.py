"""The conservative and calibrated part of Cal-QL's critic loss (arXiv 2303.05479, eq. 5.1).

`R = Σ_i mean(log Σ_a exp(Q_i(s, a) − log μ(a)) − Q_i(s, a_data))`

The sum goes over n uniform actions, n of π(s) and n of π(s'), each divided by its own density μ, as
in CQL(H) (arXiv 2006.04779, appendix F). Where an action is the policy's, Q_i(s, a) is replaced by
max(Q_i(s, a), V_μ(s)): values below those of the behaviour policy are not pushed down further.
"""

from __future__ import annotations

import torch
from torch import Tensor


def calibrated_regulariser(
    q_data: Tensor,
    q_random: Tensor,
    q_policy: Tensor,
    log_density_random: Tensor,
    log_density_policy: Tensor,
    reference: Tensor | None,
) -> Tensor:
    """R, a scalar with gradient for Q.

    Args:
        q_data: Q_i(s, a) of the batch's actions, `[num_q, B]`.
        q_random: Of `n` uniform actions, `[num_q, n, B]`.
        q_policy: Of `m` of the policy's actions, `[num_q, m, B]`.
        log_density_random: Of a uniform action, a scalar.
        log_density_policy: Of the policy's actions, `[m, B]`, without gradient.
        reference: V_μ(s), `[B]`, without gradient; None is CQL, which has none.
    """
    if reference is not None:
        q_policy = torch.maximum(q_policy, reference)
    weighed = torch.cat((q_random - log_density_random, q_policy - log_density_policy), dim=1)
    return (torch.logsumexp(weighed, dim=1) - q_data).mean(-1).sum()
