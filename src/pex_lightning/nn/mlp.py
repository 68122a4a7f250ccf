"""Multi-layer perceptrons: one network, and an ensemble of them in one batched product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Module):
    """Linear layers with ReLU between them and none after the last.

    Args:
        in_dim: Size of the input.
        hidden_dims: Sizes of the hidden layers, for example `(256, 256)`.
        out_dim: Size of the output.
        layer_norm: Whether hidden layers are normalised before the ReLU (LayerNorm, arXiv
            1607.06450).
    """

    def __init__(
        self, in_dim: int, hidden_dims: Sequence[int], out_dim: int, *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        sizes = [in_dim, *hidden_dims, out_dim]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            norm = [nn.LayerNorm(fan_out)] if layer_norm else []
            layers += [nn.Linear(fan_in, fan_out), *norm, nn.ReLU()]
        self.layers = nn.Sequential(*layers[: -2 if layer_norm else -1])

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
        layer_norm: Whether hidden layers are normalised before the ReLU, each member by itself.
    """

    def __init__(
        self,
        size: int,
        in_dim: int,
        hidden_dims: Sequence[int],
        out_dim: int,
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_dim, *hidden_dims, out_dim]
        self.size = size
        self.layer_norm = layer_norm
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = 1.0 / math.sqrt(fan_in)
            self.weights.append(torch.empty(size, fan_in, fan_out).uniform_(-bound, bound))
            self.biases.append(torch.empty(size, 1, fan_out).uniform_(-bound, bound))
        if layer_norm:
            self.scales = nn.ParameterList([torch.ones(size, 1, width) for width in hidden_dims])
            self.shifts = nn.ParameterList([torch.zeros(size, 1, width) for width in hidden_dims])

    def forward(
        self, x: Tensor, *, members: Tensor | None = None, constant: bool = False
    ) -> Tensor:
        """Map `[B, in_dim]` to `[size, B, out_dim]`.

        Args:
            x: The input.
            members: Indices `[n]` of the members to ask, for `[n, B, out_dim]`; all by default.
            constant: Whether the parameters get no gradient, while `x` may.
        """

        def taken(parameter: Tensor) -> Tensor:
            parameter = parameter.detach() if constant else parameter
            return parameter if members is None else parameter.index_select(0, members)

        last = len(self.weights) - 1
        hidden = x
        for layer in range(last + 1):
            weight, bias = taken(self.weights[layer]), taken(self.biases[layer])
            if layer == 0:
                hidden = x.expand(weight.shape[0], *x.shape)
            if weight.shape[-1] == 1:
                # Matrix products with one column are several times slower than this.
                hidden = (hidden * weight.mT).sum(-1, keepdim=True) + bias
            else:
                hidden = torch.baddbmm(bias, hidden, weight)
            if layer < last:
                if self.layer_norm:
                    normal = functional.layer_norm(hidden, hidden.shape[-1:])
                    scale, shift = taken(self.scales[layer]), taken(self.shifts[layer])
                    hidden = torch.addcmul(shift, normal, scale)
                hidden = torch.relu(hidden)
        return hidden
