"""A traced function as text, from which another process can restore the function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule


class Layout(NamedTuple):
    """Shape, stride and dtype of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """The layout of `tensor`."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def empty(self) -> Tensor:
        """An uninitialised tensor of this layout on the CPU."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype)


class FunctionSource(NamedTuple):
    """A function of tensors as Python code from torch.fx, one line for each torch operation.

    A `GraphModule` cannot be sent to the process: unpickling traces it again, and operations
    that take no tensor, such as random draws, would become constants.

    Attributes:
        code: Python code that defines `forward`.
        constants: Constant tensors that the code refers to, by name.
        arguments: Layouts of the arguments.
    """

    code: str
    constants: dict[str, Tensor]
    arguments: list[Layout]

    @classmethod
    def of(cls, graph: GraphModule, arguments: list[Tensor]) -> FunctionSource:
        """The source of a graph on the CPU that takes `arguments` as separate arguments."""
        used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
        constants = {str(name): getattr(graph, str(name)) for name in sorted(used, key=str)}
        return cls(graph.code, constants, [Layout.of(tensor) for tensor in arguments])

    def text(self) -> str:
        """The function as one string, with exact constants."""
        numbers = {name: (Layout.of(t), t.tolist()) for name, t in self.constants.items()}
        return repr((self.code, numbers, self.arguments))

    def module(self) -> nn.Module:
        """The function as a module whose `forward` takes one list of tensors."""
        return _Module(self)

    def examples(self) -> list[Tensor]:
        """Uninitialised tensors with the layouts of the arguments."""
        return [layout.empty() for layout in self.arguments]


class _Module(nn.Module):
    def __init__(self, source: FunctionSource) -> None:
        super().__init__()
        for name, tensor in source.constants.items():
            self.register_buffer(name, tensor)
        # The names that code from torch.fx refers to.
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
