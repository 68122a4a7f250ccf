"""The ant's walking policy, a small network evaluated without torch.

`recipes/ant_walker.py` in the repository trains it.
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

    Its weights come from the `net` of a `pex_lightning.nn.gaussian.GaussianPolicy` with actions in
    [-1, 1]: `layers.0.weight` `[out, in]`, `layers.0.bias` `[out]`, `layers.2.weight`, ...

    Args:
        path: The safetensors file of the weights.
    """

    def __init__(self, path: Path = WALKER_FILE) -> None:
        arrays = load_file(path)
        layers = sorted(int(key.split(".")[1]) for key in arrays if key.endswith(".weight"))
        self._layers = [
            (arrays[f"layers.{layer}.weight"], arrays[f"layers.{layer}.bias"]) for layer in layers
        ]

    def __call__(self, observation: Vector) -> Vector:
        """Return the action `[8]`, without noise, for an observation `[29]`.

        The observation consists of the ant's without x and y (27 numbers, in the world's frame)
        and the walking direction, a unit vector (2).
        """
        hidden = observation
        last = len(self._layers) - 1
        for layer, (weight, bias) in enumerate(self._layers):
            # BLAS rounds differently with other thread counts, which the ant's chaotic motion
            # amplifies, and would not be faster for a network of this size.
            hidden = np.einsum("ij,j->i", weight, hidden) + bias
            if layer < last:
                np.maximum(hidden, 0.0, out=hidden)
        return np.tanh(hidden)
