"""Admission of the policy that learns to the choice between the members of a policy set."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pex_lightning.policies.choice import ChoiceRule


def without_learner(values: Tensor, filled: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Values `[M, B]` and filled places `[M]` of the frozen members alone."""
    return values[:-1], None if filled is None else filled[:-1]


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

    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The mixture of both choices."""
        alone = self.rule.probs(*without_learner(values, filled))
        frozen = torch.nn.functional.pad(alone, (0, 1))
        return torch.lerp(frozen, self.rule.probs(values, filled), self.share)

    def best(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The favourite among all members with probability `share`, else among the frozen."""
        admitted = torch.rand(values.shape[1], device=values.device) < self.share
        frozen = self.rule.best(*without_learner(values, filled))
        return torch.where(admitted, self.rule.best(values, filled), frozen)

    def decide(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The favourite among all members once `share` is 0.5, before that among the frozen."""
        frozen = self.rule.decide(*without_learner(values, filled))
        return torch.where(self.share >= 0.5, self.rule.decide(values, filled), frozen)

    @property
    def unfinished(self) -> str | None:
        """That the share is below 1."""
        share = float(self.share)
        if share >= 1.0:
            return None
        return (
            f"the new policy was a candidate in only {math.floor(100 * share)} % of choices, so "
            "that the last score is of a mixture"
        )

    def diagnose(self, values: Tensor, filled: Tensor | None = None) -> Mapping[str, Tensor]:
        """What the wrapped rule says of all members, and `admitted`, the share."""
        return {**self.rule.diagnose(values, filled), "admitted": self.share}
