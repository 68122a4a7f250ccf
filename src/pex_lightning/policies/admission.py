"""Admission of the policy that learns to the choice between the members of a policy set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pex_lightning.policies.choice import ChoiceRule


class Admission(ChoiceRule):
    """Wraps a rule: with probability `share` all members are candidates, else the frozen alone.

    The learning member is the last one. With `share` at 0 it is never chosen, with 1 the choice
    is that of the wrapped rule.

    Args:
        rule: Chooses among the members that are candidates.

    Attributes:
        share: Scalar between 0 and 1; a buffer, so that checkpoints and compiled code have it.
    """

    share: Tensor

    def __init__(self, rule: ChoiceRule) -> None:
        super().__init__()
        self.rule = rule
        self.register_buffer("share", torch.ones(()))

    def probs(self, values: Tensor) -> Tensor:
        """The mixture of both choices."""
        frozen = torch.nn.functional.pad(self.rule.probs(values[:-1]), (0, 1))
        return torch.lerp(frozen, self.rule.probs(values), self.share)

    def best(self, values: Tensor) -> Tensor:
        """The favourite among all members with probability `share`, else among the frozen."""
        admitted = torch.rand(values.shape[1], device=values.device) < self.share
        return torch.where(admitted, self.rule.best(values), self.rule.best(values[:-1]))

    def diagnose(self, values: Tensor) -> Mapping[str, Tensor]:
        """What the wrapped rule says of all members, and `admitted`, the share."""
        return {**self.rule.diagnose(values), "admitted": self.share}
