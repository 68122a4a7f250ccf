"""Networks of equal layers, evaluated on the same input by one batched product a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class StackedNets(nn.Module):
    """Copies of `K` sequential networks, side by side.

    The copies are buffers that are in no state dict: the networks themselves are there. They do
    not follow the networks by themselves, see `copy`.

    Args:
        nets: Sequences of the same layers: linear ones, layer norms, and what has no parameters.
    """

    def __init__(self, nets: Sequence[nn.Sequential]) -> None:
        super().__init__()
        # In a list, as a module that is registered twice is not restored after a functional call.
        self._layers = [_without_parameters(layer) for layer in nets[0]]
        for number, (weight, bias) in _stacked(nets):
            self.register_buffer(f"weight_{number}", weight, persistent=False)
            self.register_buffer(f"bias_{number}", bias, persistent=False)

    @torch.no_grad()
    def copy(self, nets: Sequence[nn.Sequential]) -> None:
        """Copy the parameters of the networks, in place."""
        for number, (weight, bias) in _stacked(nets):
            self.get_buffer(f"weight_{number}").copy_(weight)
            self.get_buffer(f"bias_{number}").copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in]` to `[K, B, out]`."""
        hidden = x.expand(self.get_buffer("weight_0").shape[0], *x.shape)
        for number, layer in enumerate(self._layers):
            if layer is None or isinstance(layer, nn.LayerNorm):
                weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
            if layer is None and weight.shape[-1] == 1:
                # Matrix products with one column are several times slower than this.
                hidden = (hidden * weight.mT).sum(-1, keepdim=True) + bias
            elif layer is None:
                hidden = torch.baddbmm(bias, hidden, weight)
            elif isinstance(layer, nn.LayerNorm):
                hidden = layer(hidden) * weight + bias
            else:
                hidden = layer(hidden)
        return hidden


def _without_parameters(layer: nn.Module) -> nn.Module | None:
    """What is left of a layer without its parameters; None of a linear one."""
    if isinstance(layer, nn.Linear):
        return None
    if isinstance(layer, nn.LayerNorm):
        return nn.LayerNorm(layer.normalized_shape, eps=layer.eps, elementwise_affine=False)
    assert not list(layer.parameters()), f"{layer} has parameters that are not stacked"
    return layer


@torch.no_grad()
def _stacked(nets: Sequence[nn.Sequential]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Of layers with parameters: number, weights and biases `[K, 1, out]`.

    Weights are `[K, in, out]`, those of a layer norm `[K, 1, out]`.
    """
    for number, first in enumerate(nets[0]):
        layers: list[Any] = [net[number] for net in nets]
        if isinstance(first, (nn.Linear, nn.LayerNorm)):
            weight = torch.stack([layer.weight for layer in layers])
            bias = torch.stack([layer.bias for layer in layers])
            linear = isinstance(first, nn.Linear)
            weight = weight.mT.contiguous() if linear else weight.unsqueeze(1)
            yield number, (weight, bias.unsqueeze(1))
