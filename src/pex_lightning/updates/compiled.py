"""The update as one compiled function: losses, their gradient, Adam and the Polyak step.

It computes what the plain update in :mod:`pex_lightning.updates.plain` computes, from the same
losses and on the same optimizer's state, so that checkpoints do not tell which of the two wrote
them; numbers differ by rounding. What it leaves out are Lightning's hooks between backward and
step and the parameters' ``.grad``, which it has no use for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import Adam

from pex_lightning.errors import UserError
from pex_lightning.updates.batch import Batch, Diagnostics, Losses
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.compilation.compiler import Compiler, Function
from pex_lightning.updates.compilation.source import Layout
from pex_lightning.updates.flat_adam import FlatGroup, FlatTensors
from pex_lightning.updates.rule import UpdateRule

CompileChoice = bool | Literal["auto"]


class CompiledUpdate:
    """Runs updates as one compiled function, in a run of one CUDA device as a CUDA graph.

    Parameters and Adam's moments are moved into one tensor a parameter group, of which what
    module and optimizer hold become views: a hundred tensors less to hand over in every call.
    Compiling begins at once; until :meth:`finish` training may go on with plain updates. What the
    losses read beside the batch has to be a parameter or a buffer of the module, or never to
    change: its attributes and the optimizer's, such as ``betas``, are taken as they are now. Random
    numbers are drawn from torch's generator in the order of the plain update, on a CPU to the bit.

    Args:
        rule: The module that learns.
        optimizer: Its Adam; the state is created where it is absent and changed in place.
        batch: What batches look like; all have this shape.
        compiler: Compiles it.
        clipping: Limit of the gradient.
        all_reduce: Sums a tensor over all processes, in place; None where there is one process.
        world_size: Number of processes.

    Attributes:
        ready: Whether it can be called.

    Raises:
        CompilationError: It cannot be compiled.
    """

    def __init__(
        self,
        rule: UpdateRule,
        optimizer: Adam,
        batch: Batch,
        compiler: Compiler,
        clipping: Clipping | None = None,
        all_reduce: Callable[[Tensor], object] | None = None,
        world_size: int = 1,
    ) -> None:
        names = {id(parameter): name for name, parameter in rule.named_parameters()}
        groups = [FlatGroup.of(group, optimizer, names) for group in optimizer.param_groups]
        self._functions = _UpdateFunctions(rule, groups, clipping or Clipping(), world_size)
        self._groups = groups
        self._state = self._functions.state()
        self._layouts = [Layout.of(column) for column in batch]
        self._rule, self._optimizer = rule, optimizer
        self._addresses = _addresses(rule, optimizer)
        self._all_reduce = all_reduce
        example = [*self._state, *batch]
        if all_reduce is None:
            self._pending = [compiler.begin(self._functions.update, example)]
        else:
            gradients = [torch.empty_like(group.tensors.parameters) for group in groups]
            self._pending = [
                compiler.begin(self._functions.gradient, example),
                compiler.begin(self._functions.step, [*self._state, *gradients]),
            ]
        self._run: Callable[[Batch], Diagnostics] | None = None

    @property
    def ready(self) -> bool:
        """Whether it can be called."""
        return self._run is not None

    @property
    def waits(self) -> bool:
        """Whether it takes time to compile."""
        return any(pending.waits for pending in self._pending)

    def finish(self) -> None:
        """Wait until it is compiled.

        Raises:
            CompilationError: It could not be compiled.
        """
        functions = [pending.finish() for pending in self._pending]
        run = self._in_one_process(*functions) if len(functions) == 1 else self._reduced(*functions)
        on_cuda = self._state[0].device.type == "cuda"
        self._run = _CUDAGraph(run) if on_cuda and self._all_reduce is None else run

    def check(self, batch: Batch) -> None:
        """Make sure that it still computes on what module and optimizer hold.

        Raises:
            UserError: The batch is of another kind, or something moved parameters elsewhere.
        """
        layouts = [Layout.of(column) for column in batch]
        if layouts != self._layouts:
            raise UserError(
                f"The update was compiled for batches of {self._layouts}, and was given "
                f"{layouts}. All batches must be of one kind, or --model.compile_update false."
            )
        if _addresses(self._rule, self._optimizer) != self._addresses:
            raise UserError(
                "Parameters, buffers or the optimizer's groups were replaced during training (by a "
                "callback that moves or loads them?), which a compiled update would not notice. "
                "Give --model.compile_update false."
            )

    def __call__(self, batch: Batch) -> Diagnostics:
        """One gradient step with the optimizer's learning rates; returns the diagnostics."""
        assert self._run is not None, "not compiled yet"
        for group in self._groups:
            group.follow_learning_rate()
        return self._run(batch)

    def _in_one_process(self, update: Function) -> Callable[[Batch], Diagnostics]:
        def run(batch: Batch) -> Diagnostics:
            return self._functions.named(update([*self._state, *batch]))

        return run

    def _reduced(self, gradient: Function, step: Function) -> Callable[[Batch], Diagnostics]:
        """One update of several processes, whose gradients are summed here instead of by DDP."""
        all_reduce, count = self._all_reduce, len(self._groups)
        assert all_reduce is not None

        def run(batch: Batch) -> Diagnostics:
            found = gradient([*self._state, *batch])
            for flat in found[:count]:
                all_reduce(flat)
            step([*self._state, *found[:count]])
            return self._functions.named(found[count:])

        return run


def _addresses(module: nn.Module, optimizer: Adam) -> list[int]:
    """The addresses of all that an update reads and changes."""
    tensors = [*module.parameters(), *module.buffers()]
    moments = [optimizer.state[group["params"][0]]["exp_avg"] for group in optimizer.param_groups]
    groups = [id(group) for group in optimizer.param_groups]
    return [*(tensor.data_ptr() for tensor in (*tensors, *moments)), *groups]


class _UpdateFunctions:
    """An update, and its two halves, as functions of one list of tensors, as a compiler takes them.

    The list begins with ``state()``. ``update`` and ``gradient`` take the batch's columns after
    it, ``step`` the gradients.
    """

    def __init__(
        self, rule: UpdateRule, groups: list[FlatGroup], clipping: Clipping, world_size: int
    ) -> None:
        self._losses = _WithTensors(rule, rule.losses)
        self._after_step = _WithTensors(rule, rule.after_step)
        self._groups = groups
        self._clipping = clipping
        self._world_size = world_size
        learnt = {name for group in groups for name in group.names}
        held = [*rule.named_parameters(), *rule.named_buffers()]
        self._held = {name: tensor.detach() for name, tensor in held if name not in learnt}
        self._diagnostics: list[str] = []

    def state(self) -> list[Tensor]:
        """All tensors that the module and its optimizer consist of."""
        return [*(t for group in self._groups for t in group.tensors), *self._held.values()]

    def named(self, diagnostics: list[Tensor]) -> Diagnostics:
        """What ``update`` and ``gradient`` return, by name."""
        return dict(zip(self._diagnostics, diagnostics, strict=True))

    def update(self, tensors: list[Tensor]) -> list[Tensor]:
        """Change the state; returns the diagnostics."""
        given = iter(tensors)
        groups, held = self._taken(given)
        gradients, diagnostics = self._gradients(groups, held, Batch(*given))
        self._step(groups, held, gradients)
        return diagnostics

    def gradient(self, tensors: list[Tensor]) -> list[Tensor]:
        """The gradient of the losses' sum ``[P]`` of each group, then the diagnostics."""
        given = iter(tensors)
        groups, held = self._taken(given)
        gradients, diagnostics = self._gradients(groups, held, Batch(*given))
        return [*gradients, *diagnostics]

    def step(self, tensors: list[Tensor]) -> list[Tensor]:
        """Change the state by gradients ``[P]`` of each group."""
        given = iter(tensors)
        groups, held = self._taken(given)
        self._step(groups, held, list(given))
        return []

    def _taken(self, given: Iterator[Tensor]) -> tuple[list[FlatGroup], dict[str, Tensor]]:
        """The state from the front of a list."""
        groups = [
            group._replace(tensors=FlatTensors(*(next(given) for _ in group.tensors)))
            for group in self._groups
        ]
        return groups, {name: next(given) for name in self._held}

    def _gradients(
        self, groups: list[FlatGroup], held: dict[str, Tensor], batch: Batch
    ) -> tuple[list[Tensor], list[Tensor]]:
        def total(parameters: dict[str, Tensor]) -> tuple[Tensor, Diagnostics]:
            losses: Losses = self._losses.called({**parameters, **held}, batch)
            losses.check_terms({group.settings["name"] for group in groups})
            return losses.total, losses.diagnostics

        found, diagnostics = torch.func.grad(total, has_aux=True)(_views_of(groups))
        self._diagnostics = list(diagnostics)
        flat = [torch.cat([found[name].flatten() for name in group.names]) for group in groups]
        mean = flat if self._world_size == 1 else [part / self._world_size for part in flat]
        return mean, list(diagnostics.values())

    def _step(
        self, groups: list[FlatGroup], held: dict[str, Tensor], gradients: list[Tensor]
    ) -> None:
        for group, gradient in zip(groups, self._clipping.clipped(gradients), strict=True):
            group.step(gradient)
        self._after_step.called({**_views_of(groups), **held})


def _views_of(groups: list[FlatGroup]) -> dict[str, Tensor]:
    return {name: view for group in groups for name, view in group.views().items()}


class _WithTensors(nn.Module):
    """A module's method, to be called with other tensors than the module's own."""

    def __init__(self, module: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self._method = method

    def forward(self, *args: Any) -> Any:
        return self._method(*args)

    def called(self, tensors: dict[str, Tensor], *args: Any) -> Any:
        """Its result with these parameters and buffers, by their names in the module."""
        renamed = {f"module.{name}": tensor for name, tensor in tensors.items()}
        return torch.func.functional_call(self, renamed, args)


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
        # What other threads do meanwhile, such as pinning memory, is no part of it.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._diagnostics = self._function(self._batch)
