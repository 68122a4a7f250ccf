"""An inverse temperature that changes while training: along a schedule, or by learning."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pex_lightning.policies.schedule import progress


class InverseTemperature(nn.Module, ABC):
    """PEX's α (arXiv 2302.00935, eq. 5), where it is no constant."""

    @property
    @abstractmethod
    def value(self) -> Tensor:
        """The present value, a scalar without gradient."""


class ScheduledTemperature(InverseTemperature):
    """A value that goes linearly from one number to another.

    Args:
        start: The value at first.
        end: The value from `steps` on.
        steps: Gradient steps on the way.

    Attributes:
        current: Scalar; a buffer, so that checkpoints and compiled code have it.
    """

    current: Tensor

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        self.start, self.end, self.steps = start, end, steps
        self.register_buffer("current", torch.tensor(float(start)))

    @property
    def value(self) -> Tensor:
        """The value of the step that `follow` was told last."""
        return self.current

    def follow(self, step: int) -> None:
        """Set the value for a number of gradient steps."""
        self.current.fill_(self.start + progress(step, self.steps) * (self.end - self.start))


class AdaptedTemperature(InverseTemperature):
    """A dual variable that holds the mean entropy of the choice at a target.

    Where the choice is more random than the target, α grows; where it is less, α falls. It stays
    positive, as its logarithm is what learns.

    Args:
        start: The value at first; above 0.
        target: The mean entropy, as a fraction of log M for M members.
        members: M.
    """

    def __init__(self, start: float, target: float, members: int) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(math.log(start)))
        self.target = target
        self.target_entropy = target * math.log(members)

    @property
    def value(self) -> Tensor:
        """Exp of what learns."""
        return self.log_value.detach().exp()

    def loss(self, mean_entropy: Tensor, filled: Tensor | None = None) -> Tensor:
        """Log α · (target − mean entropy), whose gradient is the gap.

        Args:
            mean_entropy: Mean entropy of the choice on a batch, a scalar without gradient.
            filled: Which places of the set hold a member, `[M]` bool, where not all do: M of the
                target is their number.
        """
        if filled is None:
            return self.log_value * (self.target_entropy - mean_entropy)
        return self.log_value * (self.target * filled.sum().log() - mean_entropy)
