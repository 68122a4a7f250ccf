"""The update as one compiled function: losses, their gradient, Adam and the Polyak step.

It computes what the plain update in :mod:`pex_lightning.algorithms.base` computes, from the same
losses and with torch's own Adam on the same optimizer's state, so that checkpoints do not tell
which of the two wrote them; numbers differ by rounding. What it leaves out are Lightning's hooks
between backward and step and the parameters' ``.grad``, which it has no use for.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import Adam, adam

from pex_lightning.algorithms.batch import Batch

ClipAlgorithm = Literal["norm", "value"]
CompileChoice = bool | Literal["auto"]
Diagnostics = Mapping[str, Tensor]

WORTH_COMPILING = 100_000
"""Updates on a CPU from which compiling, half a minute at first, is soon regained."""


class Losses(Protocol):
    """The losses of one batch."""

    @property
    def total(self) -> Tensor:
        """Their sum, a scalar: the gradients touch disjoint parameters."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars to log, on the device."""


class Learner(Protocol):
    """What an update needs of an algorithm, which is an ``nn.Module``."""

    def losses(self, batch: Batch) -> Losses:
        """Every loss on one batch, computed from the networks as they are."""

    def after_step(self) -> None:
        """What follows the optimizer's step: the targets' Polyak step."""


@dataclass(frozen=True)
class Clipping:
    """Largest gradient over all networks together; None is no limit."""

    limit: float | None = None
    algorithm: ClipAlgorithm = "norm"

    def clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """The gradients within the limit."""
        if self.limit is None:
            return gradients
        if self.algorithm == "value":
            return [gradient.clamp(-self.limit, self.limit) for gradient in gradients]
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        scale = (self.limit / (norm + 1e-6)).clamp(max=1.0)
        return [gradient * scale for gradient in gradients]


def has_compiler() -> bool:
    """Whether the C++ compiler that ``torch.compile`` uses on a CPU is in the path."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


class CompiledUpdate:
    """Runs updates as one compiled function, on a CUDA device recorded as a CUDA graph.

    Parameters and Adam's moments are moved into one tensor a parameter group, of which what
    module and optimizer hold become views: a hundred tensors less to hand over in every call.
    Shapes are fixed by the first batch, and so are the learner's settings. Random numbers are
    drawn from torch's generator in the order in which the plain update draws them.

    Args:
        learner: An ``nn.Module`` with losses.
        optimizer: Its Adam; the state is created where it is absent and changed in place.
        clipping: Limit of the gradient.
        all_reduce: Sums a tensor over all processes, in place; None where there is one process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        learner: Learner,
        optimizer: Adam,
        clipping: Clipping | None = None,
        all_reduce: Callable[[Tensor], object] | None = None,
        world_size: int = 1,
    ) -> None:
        assert isinstance(learner, nn.Module)
        names = {id(parameter): name for name, parameter in learner.named_parameters()}
        self._groups = [_Group.of(group, optimizer, names) for group in optimizer.param_groups]
        self._losses = _Method(learner, "losses")
        self._after_step = _Method(learner, "after_step")
        self._clipping = clipping or Clipping()
        self._all_reduce = all_reduce
        self._world_size = world_size
        self._shapes: list[torch.Size] | None = None
        self._run: Callable[[Batch], Diagnostics]
        on_cpu = self._groups[0].parameters.device.type == "cpu"
        if all_reduce is None:
            whole = _compiled(self._update, on_cpu)
            self._run = whole if on_cpu else _CUDAGraph(whole)
        else:
            self._compiled_gradient = _compiled(self._gradient, on_cpu)
            self._compiled_step = _compiled(self._step, on_cpu)
            self._run = self._update_together

    def __call__(self, batch: Batch) -> Diagnostics:
        """One gradient step with the optimizer's learning rates; returns the diagnostics."""
        shapes = [column.shape for column in batch]
        if self._shapes is None:
            self._shapes = shapes
        assert shapes == self._shapes, "an update is compiled for one shape of batches"
        for group in self._groups:
            group.follow_learning_rate()
        diagnostics: Diagnostics = self._run(batch)
        return diagnostics

    def _update(self, batch: Batch) -> Diagnostics:
        gradients, diagnostics = self._gradient(batch)
        self._step(gradients)
        return diagnostics

    def _update_together(self, batch: Batch) -> Diagnostics:
        """The same over several processes: outside of DDP's backward nobody averages for us."""
        assert self._all_reduce is not None
        diagnostics: Diagnostics
        gradients, diagnostics = self._compiled_gradient(batch)
        for gradient in gradients:
            self._all_reduce(gradient)
        self._compiled_step(gradients)
        return diagnostics

    def _gradient(self, batch: Batch) -> tuple[list[Tensor], Diagnostics]:
        """The gradient of the losses' sum, flat, by group; and the diagnostics."""

        def total(parameters: dict[str, Tensor]) -> tuple[Tensor, Diagnostics]:
            losses: Losses = torch.func.functional_call(self._losses, parameters, (batch,))
            return losses.total, losses.diagnostics()

        found, diagnostics = torch.func.grad(total, has_aux=True)(self._parameters())
        by_group = [[found[name].flatten() for name in group.names] for group in self._groups]
        return [torch.cat(parts) / self._world_size for parts in by_group], diagnostics

    def _step(self, gradients: list[Tensor]) -> None:
        # Not as a decorator, whose code all that it decorates would share: see ``_compiled``.
        with torch.no_grad():
            gradients = self._clipping.clipped(gradients)
            for group, gradient in zip(self._groups, gradients, strict=True):
                group.step(gradient)
            torch.func.functional_call(self._after_step, self._parameters(), ())

    def _parameters(self) -> dict[str, Tensor]:
        """What learns, by its name in ``_Method``."""
        return {name: view for group in self._groups for name, view in group.views().items()}


class _Method(nn.Module):
    """A learner's method as the forward of a module, for ``functional_call``."""

    PREFIX = "learner."

    def __init__(self, learner: nn.Module, method: str) -> None:
        super().__init__()
        self.learner = learner
        self._method = method

    def forward(self, *args: Any) -> Any:
        return getattr(self.learner, self._method)(*args)


class _Group(NamedTuple):
    """A parameter group, flat, and its learning rate as a tensor on the device.

    Attributes:
        settings: The optimizer's group.
        names: Of the parameters, in ``_Method``.
        shapes: Of the parameters.
        parameters: [P] all of them.
        mean: [P] Adam's first moment.
        square: [P] its second.
        steps: [n] its counter, the same n times.
        learning_rate: [].
    """

    settings: dict[str, Any]
    names: list[str]
    shapes: list[torch.Size]
    parameters: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    learning_rate: Tensor

    @classmethod
    def of(cls, settings: dict[str, Any], optimizer: Adam, names: Mapping[int, str]) -> _Group:
        """Take over what module and optimizer hold, which become views of this."""
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
        return cls(
            settings,
            [_Method.PREFIX + names[id(parameter)] for parameter in parameters],
            shapes,
            flat,
            _flattened(states, "exp_avg"),
            _flattened(states, "exp_avg_sq"),
            _flattened(states, "step"),
            torch.tensor(float(settings["lr"]), device=flat.device),
        )

    def views(self) -> dict[str, Tensor]:
        """The parameters in their shapes, by name."""
        return dict(zip(self.names, _views(self.parameters, self.shapes), strict=True))

    def follow_learning_rate(self) -> None:
        """Take over what the optimizer says; a number on the device, not one of the graph's."""
        self.learning_rate.fill_(self.settings["lr"])

    def step(self, gradient: Tensor) -> None:
        """Adam, in place; ``gradient`` is [P]."""
        self.steps.add_(1.0)
        beta_1, beta_2 = self.settings["betas"]
        adam(
            [self.parameters],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.steps[0] - 1.0],
            foreach=False,
            capturable=True,
            amsgrad=False,
            beta1=beta_1,
            beta2=beta_2,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=self.settings["eps"],
            maximize=False,
        )


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


class _CUDAGraph:
    """Records a function of a batch once and replays it: one launch an update.

    The first calls run as they are, on a stream of their own, as recording demands; a recorded
    call reads its batch from, and writes its diagnostics to, memory that stays in its place.
    """

    WARM_UP = 3

    def __init__(self, function: Callable[[Batch], Diagnostics]) -> None:
        self._function = function
        self._calls = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._diagnostics: Diagnostics = {}

    def __call__(self, batch: Batch) -> Diagnostics:
        self._calls += 1
        if self._calls <= self.WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                diagnostics = self._function(batch)
            torch.cuda.current_stream().wait_stream(self._stream)
            return diagnostics
        if self._graph is None:
            self._record(batch)
        assert self._graph is not None
        assert self._batch is not None
        for mine, theirs in zip(self._batch, batch, strict=True):
            mine.copy_(theirs, non_blocking=True)
        self._graph.replay()
        return self._diagnostics

    def _record(self, batch: Batch) -> None:
        self._batch = Batch(*(column.clone() for column in batch))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._diagnostics = self._function(self._batch)


def _compiled(function: Any, on_cpu: bool) -> Any:
    """A method, compiled."""
    options: dict[str, Any] = {
        # Shapes, devices and modes are ours to keep: a check before every call costs as much as
        # one of its largest matrix products.
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
        # The random numbers that the plain update would draw.
        "fallback_random": True,
    }
    if on_cpu:
        options["cpp_wrapper"] = True
    # Compiled functions are kept by code object, and without checks the next learner's update
    # would be taken for this one's.
    code = function.__func__.__code__.replace()
    own = FunctionType(code, function.__func__.__globals__, closure=function.__func__.__closure__)
    return torch.compile(
        MethodType(own, function.__self__), fullgraph=True, dynamic=False, options=options
    )
