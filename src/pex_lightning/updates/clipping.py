"""Gradient clipping for plain and for compiled updates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

ClipAlgorithm = Literal["norm", "value"]


@dataclass(frozen=True)
class Clipping:
    """Limits the gradient of all networks together, as torch's `clip_grad_*` functions do.

    Attributes:
        limit: The largest norm or absolute value; None for no limit.
        algorithm: Limits the `norm` over all gradients, or every `value` separately.
    """

    limit: float | None = None
    algorithm: ClipAlgorithm = "norm"

    def clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return clipped gradients; the given tensors are not changed."""
        if self.limit is None:
            return gradients
        if self.algorithm == "value":
            return [gradient.clamp(-self.limit, self.limit) for gradient in gradients]
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        scale = (self.limit / (norm + 1e-6)).clamp(max=1.0)
        return [gradient * scale for gradient in gradients]

    def clip_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Clip the gradients of the parameters; parameters without a gradient are ignored."""
        if self.limit is None:
            return
        held = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        for parameter, gradient in zip(held, self.clipped(gradients), strict=True):
            parameter.grad = gradient
