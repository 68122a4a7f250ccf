"""The ant's walker: a small network that takes a heading, evaluated without torch.

`recipes/ant_walker.py` of the repository learns it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Vector = npt.NDArray[np.float32]

WALKER_FILE = Path(__file__).with_name("ant_walker.safetensors")


class Walker:
    """A perceptron with ReLU between its layers and tanh after the last.

    The arrays are those of the `net` of a `pex_lightning.nn.gaussian.GaussianPolicy` with actions
    in [-1, 1]: `layers.0.weight` `[out, in]`, `layers.0.bias` `[out]`, `layers.2.weight`, ...

    Args:
        path: Its safetensors file.
    """

    def __init__(self, path: Path = WALKER_FILE) -> None:
        arrays = load_file(path)
        layers = sorted(int(key.split(".")[1]) for key in arrays if key.endswith(".weight"))
        self._layers = [
            (arrays[f"layers.{layer}.weight"], arrays[f"layers.{layer}.bias"]) for layer in layers
        ]

    def __call__(self, observation: Vector) -> Vector:
        """The action `[8]`, without noise, for an observation `[29]`.

        The observation is the ant's without x and y (27 numbers, in the world's frame), then the
        heading: a unit vector (2).
        """
        hidden = observation
        last = len(self._layers) - 1
        for layer, (weight, bias) in enumerate(self._layers):
            # Not BLAS: its rounding depends on how many threads it has, and the ant's motion is
            # chaotic. A network of this size gains little from it.
            hidden = np.einsum("ij,j->i", weight, hidden) + bias
            if layer < last:
                np.maximum(hidden, 0.0, out=hidden)
        return np.tanh(hidden)
