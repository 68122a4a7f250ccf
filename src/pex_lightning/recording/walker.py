"""The ant's walking policy, a small network evaluated without torch.

`recipes/ant_walker.py` in the repository trains it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pex_lightning.recording.perceptron import Perceptron, Vector

WALKER_FILE = Path(__file__).with_name("ant_walker.safetensors")


class Walker:
    """A perceptron with tanh after its last layer.

    Its weights come from the `net` of a `pex_lightning.nn.gaussian.GaussianPolicy` with actions in
    [-1, 1].

    Args:
        path: The safetensors file of the weights.
    """

    def __init__(self, path: Path = WALKER_FILE) -> None:
        self._net = Perceptron(path)

    def __call__(self, observation: Vector) -> Vector:
        """Return the action `[8]`, without noise, for an observation `[29]`.

        The observation consists of the ant's without x and y (27 numbers, in the world's frame)
        and the walking direction, a unit vector (2).
        """
        return np.tanh(self._net(observation))
