"""Adam on one tensor a parameter group, of which what module and optimizer hold are views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import Adam


class FlatTensors(NamedTuple):
    """What a step reads and changes.

    Attributes:
        parameters: [P] all of a group's parameters.
        mean: [P] Adam's first moment.
        square: [P] its second.
        steps: [n] its counter, the same for each of the group's n parameters.
        learning_rate: [].
    """

    parameters: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    learning_rate: Tensor


class FlatGroup(NamedTuple):
    """A parameter group of an Adam, flat.

    Attributes:
        settings: The optimizer's group.
        names: Of the parameters in their module.
        shapes: Of the parameters.
        tensors: The group's tensors.
    """

    settings: dict[str, Any]
    names: list[str]
    shapes: list[torch.Size]
    tensors: FlatTensors

    @classmethod
    def of(cls, settings: dict[str, Any], optimizer: Adam, names: Mapping[int, str]) -> FlatGroup:
        """Take over what module and optimizer hold, which become views of this.

        Args:
            settings: One of the optimizer's groups, without weight decay.
            optimizer: Its state is created where it is absent.
            names: Of the parameters, by their ``id``.
        """
        assert settings["weight_decay"] == 0.0
        assert not settings["amsgrad"]
        assert not settings["maximize"]
        parameters: list[nn.Parameter] = list(settings["params"])
        states = [optimizer.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if not state:
                # As Adam itself does in its first step.
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
        """Take over what the optimizer says; a number on the device, not one of the function's."""
        self.tensors.learning_rate.fill_(self.settings["lr"])

    def step(self, gradient: Tensor) -> None:
        """Adam (arXiv 1412.6980, algorithm 1), in place; ``gradient`` is [P].

        As torch has it up to rounding: the corrections of both moments are taken together, so that
        an element costs one root and one division.
        """
        parameters, mean, square, steps, learning_rate = self.tensors
        beta_1, beta_2 = self.settings["betas"]
        steps.add_(1.0)
        # In float64, as the difference to 1 is small. All of them are the same; but a maximum is
        # computed once, what has no reduction at every element.
        count = steps.double()
        size = (learning_rate / (1.0 - beta_1**count)).amax().float()
        root = torch.rsqrt(1.0 - beta_2**count).amax().float()
        mean.lerp_(gradient, 1.0 - beta_1)
        square.mul_(beta_2).addcmul_(gradient, gradient, value=1.0 - beta_2)
        parameters.sub_(size * mean / (square.sqrt() * root + self.settings["eps"]))


def _flattened(states: list[dict[str, Tensor]], key: str) -> Tensor:
    """One tensor for an entry of all states, which become views of it."""
    values = [state[key] for state in states]
    flat = torch.cat([value.flatten() for value in values])
    shapes = [value.shape for value in values]
    for state, view in zip(states, _views(flat, shapes), strict=True):
        state[key] = view
    return flat


def _views(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = torch.split(flat, [shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
