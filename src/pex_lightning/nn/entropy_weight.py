"""The weight of the policy's entropy in SAC, which learns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class EntropyWeight(nn.Module):
    """α of SAC (arXiv 1812.05905); positive, as its logarithm is what learns.

    Args:
        start: The value at first; above 0.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """α, a scalar with gradient."""
        return self.log_value.exp()
