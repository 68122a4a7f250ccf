"""Rules that choose between the members of a policy set by the value of what they propose."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ChoiceRule(nn.Module, ABC):
    """From the values of the members' candidates to a choice between the members."""

    @abstractmethod
    def probs(self, values: Tensor) -> Tensor:
        """P(i|s) for values `[M, B]`: `[B, M]`; each row sums to one."""

    def best(self, values: Tensor) -> Tensor:
        """The member that the rule favours most, for values `[M, B]`: `[B]` int64."""
        return self.probs(values).argmax(-1)


class Boltzmann(ChoiceRule):
    """P(i|s) = softmax_i(inv_temperature · Q(s, a_i)) (PEX, arXiv 2302.00935, eq. 5).

    Args:
        inv_temperature: PEX's α; 0 is a uniform choice, large is greedy.
    """

    def __init__(self, inv_temperature: float) -> None:
        super().__init__()
        self.inv_temperature = inv_temperature

    def probs(self, values: Tensor) -> Tensor:
        """The softmax over the members."""
        return torch.softmax(self.inv_temperature * values.movedim(0, -1), dim=-1)


def draw(probs: Tensor) -> Tensor:
    """Draw a member for each row of `probs` `[B, M]`; returns `[B]` int64.

    Inverse-CDF sampling: unlike `torch.multinomial` it needs no check of its input on the host.
    """
    cumulative = probs.cumsum(-1)
    uniform = torch.rand((*probs.shape[:-1], 1), device=probs.device, dtype=probs.dtype)
    # Rounding can leave the sum a little below one: scaled by it, no draw lies beyond.
    return (cumulative < uniform * cumulative[..., -1:]).sum(-1)
