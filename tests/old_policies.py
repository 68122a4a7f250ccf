"""Old policies that tests name by `old_policies:NAME`, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)


class Net(nn.Module):
    """Takes any number of observations of size 3; actions of size 2, some outside of the bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(observation)) * self.scale


def controller(observations: np.ndarray) -> np.ndarray:
    """A hand-written controller."""
    return np.stack((np.sign(observations[:, 0]), 0.5 * observations[:, 1]), axis=1)


def of_wrong_size(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 3))


def of_one_state(observations: np.ndarray) -> np.ndarray:
    return np.zeros(2)


def that_fails(observations: np.ndarray) -> np.ndarray:
    raise ValueError("no idea")


def that_is_nan(observations: np.ndarray) -> np.ndarray:
    return np.full((len(observations), 2), np.nan)


def nan_beyond_three_steps(observations: np.ndarray) -> np.ndarray:
    """Works at first; in the environment of the tests the first number is the step / 10."""
    actions = np.zeros((len(observations), 2))
    # What tests give by itself are random numbers and zeros, which are not exactly this.
    actions[observations[:, 0] == np.float32(0.3)] = np.nan
    return actions


def that_writes_into_its_input(observations: np.ndarray) -> np.ndarray:
    observations[:] = 7.0
    return np.zeros((len(observations), 2))


not_a_function = 3


def write_torchscript(path: Path, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net = Net()
    torch.jit.save(torch.jit.script(net), str(path))  # type: ignore[no-untyped-call]
    return net


def write_exported(path: Path, *, dynamic: bool = True) -> Net:
    torch.manual_seed(0)
    net = Net()
    batch = {0: torch.export.Dim("batch")} if dynamic else {}
    program = torch.export.export(net, (torch.zeros(4, 3),), dynamic_shapes=(batch,))
    torch.export.save(program, path)
    return net
