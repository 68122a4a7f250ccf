"""Small networks evaluated without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Vector = npt.NDArray[np.float32]


class Perceptron:
    """A perceptron with ReLU between its layers.

    Its weights come from a `pex_lightning.nn.mlp.MLP`: `layers.0.weight` `[out, in]`,
    `layers.0.bias` `[out]`, `layers.2.weight`, ...

    Args:
        path: The safetensors file of the weights.
    """

    def __init__(self, path: Path) -> None:
        arrays = load_file(path)
        layers = sorted(int(key.split(".")[1]) for key in arrays if key.endswith(".weight"))
        self._layers = [
            (arrays[f"layers.{layer}.weight"], arrays[f"layers.{layer}.bias"]) for layer in layers
        ]

    def __call__(self, observation: Vector) -> Vector:
        """Return the output of the last layer: `[in] -> [out]`."""
        hidden = observation
        last = len(self._layers) - 1
        for layer, (weight, bias) in enumerate(self._layers):
            # BLAS rounds differently with other thread counts, which chaotic motion amplifies, and
            # would not be faster for a network of this size.
            hidden = np.einsum("ij,j->i", weight, hidden) + bias
            if layer < last:
                np.maximum(hidden, 0.0, out=hidden)
        return hidden
