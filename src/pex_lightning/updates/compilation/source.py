"""A traced function as text, which another process can make a function of again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule


class Layout(NamedTuple):
    """What a tensor looks like, without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """Of this one."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def empty(self) -> Tensor:
        """A tensor that looks like this, on the CPU."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype)


class FunctionSource(NamedTuple):
    """A function of tensors, as torch.fx writes it down: one line for each of torch's operations.

    A ``GraphModule`` cannot be sent itself: pickled, it is traced again where it arrives, and what
    takes no tensor, such as a random draw, becomes a constant.

    Attributes:
        code: Defines ``forward``.
        constants: Tensors in it, by name.
        arguments: What it is given.
    """

    code: str
    constants: dict[str, Tensor]
    arguments: list[Layout]

    @classmethod
    def of(cls, graph: GraphModule, arguments: list[Tensor]) -> FunctionSource:
        """Of a graph on the CPU that takes these, one by one."""
        used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
        constants = {str(name): getattr(graph, str(name)) for name in sorted(used, key=str)}
        return cls(graph.code, constants, [Layout.of(tensor) for tensor in arguments])

    def text(self) -> str:
        """All of it, constants to the last bit."""
        numbers = {name: (Layout.of(t), t.tolist()) for name, t in self.constants.items()}
        return repr((self.code, numbers, self.arguments))

    def module(self) -> nn.Module:
        """The function as a module whose ``forward`` takes one list of tensors."""
        return _Module(self)

    def examples(self) -> list[Tensor]:
        """Tensors that look like what it is given."""
        return [layout.empty() for layout in self.arguments]


class _Module(nn.Module):
    def __init__(self, source: FunctionSource) -> None:
        super().__init__()
        for name, tensor in source.constants.items():
            self.register_buffer(name, tensor)
        # What torch.fx's code refers to.
        names: dict[str, Any] = {
            "torch": torch,
            "device": torch.device,
            "inf": math.inf,
            "nan": math.nan,
            "NoneType": type(None),
        }
        exec(source.code, names)
        self._function: Callable[..., list[Tensor]] = names["forward"]

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        return self._function(self, *tensors)
