"""Adam on one flat tensor per parameter group; the module's parameters are views of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import Adam


class FlatTensors(NamedTuple):
    """The tensors that a step of one group reads and changes.

    Attributes:
        parameters: [P] all parameters of the group.
        mean: [P] Adam's first moment.
        square: [P] Adam's second moment.
        steps: [n] Adam's step counter, equal for all n parameters of the group.
        learning_rate: [] learning rate of the group.
    """

    parameters: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    learning_rate: Tensor


class FlatGroup(NamedTuple):
    """A parameter group of an Adam optimizer, stored in flat tensors.

    Attributes:
        settings: The optimizer's dictionary for this group.
        names: Names of the parameters in their module.
        shapes: Shapes of the parameters.
        tensors: The flat tensors.
    """

    settings: dict[str, Any]
    names: list[str]
    shapes: list[torch.Size]
    tensors: FlatTensors

    @classmethod
    def of(cls, settings: dict[str, Any], optimizer: Adam, names: Mapping[int, str]) -> FlatGroup:
        """Move a group into flat tensors, of which the module's and optimizer's become views.

        Args:
            settings: One of the optimizer's groups, without weight decay.
            optimizer: The optimizer; missing state is created.
            names: Names of the parameters, by their `id`.
        """
        assert settings["weight_decay"] == 0.0
        assert not settings["amsgrad"]
        assert not settings["maximize"]
        parameters: list[nn.Parameter] = list(settings["params"])
        states = [optimizer.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if not state:
                # As torch's Adam does in its first step.
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        values = [parameter.data for parameter in parameters]
        shapes = [value.shape for value in values]
        flat = torch.cat([value.flatten() for value in values])
        for parameter, view in zip(parameters, _views(flat, shapes), strict=True):
            parameter.data = view
        tensors = FlatTensors(
            flat,
            _flattened(states, "exp_avg"),
            _flattened(states, "exp_avg_sq"),
            _flattened(states, "step"),
            torch.tensor(float(settings["lr"]), device=flat.device),
        )
        return cls(settings, [names[id(parameter)] for parameter in parameters], shapes, tensors)

    def views(self) -> dict[str, Tensor]:
        """The parameters in their shapes, by name."""
        return dict(zip(self.names, _views(self.tensors.parameters, self.shapes), strict=True))

    def follow_learning_rate(self) -> None:
        """Copy the optimizer's learning rate to the device, where compiled code reads it."""
        self.tensors.learning_rate.fill_(self.settings["lr"])

    def step(self, gradient: Tensor) -> None:
        """Adam (arXiv 1412.6980, algorithm 1), in place; `gradient` is [P].

        The result is torch's up to rounding. The bias corrections are computed once for the group,
        so that an element costs one root and one division.
        """
        parameters, mean, square, steps, learning_rate = self.tensors
        beta_1, beta_2 = self.settings["betas"]
        steps.add_(1.0)
        # float64, because 1 - beta**count can be small. The n values are equal; a reduction makes
        # the compiler compute the scalar once instead of for every element.
        count = steps.double()
        size = (learning_rate / (1.0 - beta_1**count)).amax().float()
        root = torch.rsqrt(1.0 - beta_2**count).amax().float()
        mean.lerp_(gradient, 1.0 - beta_1)
        square.mul_(beta_2).addcmul_(gradient, gradient, value=1.0 - beta_2)
        parameters.sub_(size * mean / (square.sqrt() * root + self.settings["eps"]))


def _flattened(states: list[dict[str, Tensor]], key: str) -> Tensor:
    """Join the entries `key` of all states in one tensor; they become views of it."""
    values = [state[key] for state in states]
    flat = torch.cat([value.flatten() for value in values])
    shapes = [value.shape for value in values]
    for state, view in zip(states, _views(flat, shapes), strict=True):
        state[key] = view
    return flat


def _views(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = torch.split(flat, [shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
