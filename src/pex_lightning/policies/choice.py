"""Rules that choose between the members of a policy set by the value of what they propose."""

from __future__ import annotations

import torch
from torch import Tensor


def boltzmann_probs(q: Tensor, inv_temperature: float) -> Tensor:
    """P(i|s) = softmax_i(inv_temperature · Q(s, a_i)) (PEX, arXiv 2302.00935, eq. 5).

    Args:
        q: Value of each member's candidate, ``[M, B]``.
        inv_temperature: PEX's α; 0 is a uniform choice, large is greedy.

    Returns:
        Probabilities ``[B, M]``; each row sums to one.
    """
    return torch.softmax(inv_temperature * q.movedim(0, -1), dim=-1)


def draw(probs: Tensor) -> Tensor:
    """Draw a member for each row of ``probs`` ``[B, M]``; returns ``[B]`` int64.

    Inverse-CDF sampling: unlike ``torch.multinomial`` it needs no check of its input on the host.
    """
    cumulative = probs.cumsum(-1)
    uniform = torch.rand((*probs.shape[:-1], 1), device=probs.device, dtype=probs.dtype)
    # Rounding can leave the sum a little below one: scaled by it, no draw lies beyond.
    return (cumulative < uniform * cumulative[..., -1:]).sum(-1)
