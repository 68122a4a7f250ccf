"""Multi-layer perceptrons: one network, and an ensemble of them in one batched product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them and none after the last.

    Args:
        in_dim: Size of the input.
        hidden_dims: Sizes of the hidden layers, for example `(256, 256)`.
        out_dim: Size of the output.
    """

    def __init__(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> None:
        super().__init__()
        sizes = [in_dim, *hidden_dims, out_dim]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in_dim]` to `[..., out_dim]`."""
        out: Tensor = self.layers(x)
        return out


class EnsembleMLP(nn.Module):
    """`size` independent MLPs evaluated together on the same input.

    The weights of a layer are stacked as `[size, fan_in, fan_out]`, so that a layer is one
    batched matrix product, and an optimiser or a Polyak step touches two tensors a layer however
    many members there are. Each member is initialised as `torch.nn.Linear` is.

    Args:
        size: Number of members.
        in_dim: Size of the input.
        hidden_dims: Sizes of the hidden layers.
        out_dim: Size of the output.
    """

    def __init__(self, size: int, in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> None:
        super().__init__()
        sizes = [in_dim, *hidden_dims, out_dim]
        self.size = size
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = 1.0 / math.sqrt(fan_in)
            self.weights.append(torch.empty(size, fan_in, fan_out).uniform_(-bound, bound))
            self.biases.append(torch.empty(size, 1, fan_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_dim]` to `[size, B, out_dim]`."""
        hidden = x.expand(self.size, *x.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.shape[-1] == 1:
                # Matrix products with one column are several times slower than this.
                hidden = (hidden * weight.mT).sum(-1, keepdim=True) + bias
            else:
                hidden = torch.baddbmm(bias, hidden, weight)
            if layer < last:
                hidden = torch.relu(hidden)
        return hidden
