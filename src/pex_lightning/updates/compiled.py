"""The update as one compiled function: losses, their gradient, Adam and the Polyak step.

It computes the same as `pex_lightning.updates.plain`, up to rounding, from the same losses and
with the same optimizer state, so checkpoints of the two are interchangeable. It neither calls
Lightning's hooks between backward and step nor sets the parameters' `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import Adam

from pex_lightning.errors import UserError
from pex_lightning.updates.batch import Batch, Diagnostics
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.compilation.compiler import Compiler, Function
from pex_lightning.updates.compilation.source import Layout
from pex_lightning.updates.flat_adam import FlatGroup
from pex_lightning.updates.functions import UpdateFunctions
from pex_lightning.updates.rule import CRITIC_GROUPS, UpdateRule

CompileChoice = bool | Literal["auto"]


class CompiledUpdate:
    """Runs updates as one compiled function; on a single CUDA device, as a CUDA graph.

    The parameters of each group and their Adam moments move into a few flat tensors; the tensors of
    the module and of the optimizer become views of them, which saves passing about a hundred
    tensors in every call. Compiling begins at once; until `finish`, plain updates may go on.
    Besides the batch, the losses may read parameters and buffers of the module; all other
    attributes, also the optimizer's such as `betas`, are compiled in as constants. Random numbers
    come from torch's generator in the same order as in the plain update; on a CPU they are equal.

    Args:
        rule: The module that learns.
        optimizer: The module's Adam; missing state is created, and it is changed in place.
        batch: An example; all batches must have its shapes, strides and dtypes.
        compiler: Compiles the update.
        clipping: Limit of the gradient.
        all_reduce: Sums a tensor over all processes, in place; None if there is one process.
        world_size: Number of processes.

    Raises:
        CompilationError: The update cannot be compiled.
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
        self._groups = groups
        self._layouts = [Layout.of(column) for column in batch]
        self._rule, self._optimizer = rule, optimizer
        self._addresses = _addresses(rule, optimizer)

        clipping = clipping or Clipping()
        functions = UpdateFunctions(rule, groups, [], clipping, world_size)
        self._whole = _Variant(functions, batch, compiler, all_reduce)
        self._of_critic: _Variant | None = None
        if rule.actor_every > 1:
            critic = [group for group in groups if group.settings["name"] in CRITIC_GROUPS]
            others = [group for group in groups if group.settings["name"] not in CRITIC_GROUPS]
            functions = UpdateFunctions(rule, critic, others, clipping, world_size)
            self._of_critic = _Variant(functions, batch, compiler, all_reduce)

    @property
    def ready(self) -> bool:
        """Whether the update is compiled and can be called."""
        return all(variant.ready for variant in self._variants())

    @property
    def waits(self) -> bool:
        """Whether `finish` has to wait for the compiler; False if all came from the cache."""
        return any(variant.waits for variant in self._variants())

    def finish(self) -> None:
        """Wait until the update is compiled.

        Raises:
            CompilationError: The update could not be compiled.
        """
        for variant in self._variants():
            variant.finish()

    def check(self, batch: Batch) -> None:
        """Check that the update still uses the memory of the module and of the optimizer.

        Raises:
            UserError: The batch has other shapes, strides or dtypes, or a tensor was replaced.
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
        """Take one gradient step with the optimizer's learning rates; return the diagnostics.

        An update in which only the critic learns gives back its terms alone.
        """
        for group in self._groups:
            group.follow_learning_rate()
        if self._of_critic is not None and self._rule.critic_alone(self._rule.global_step):
            return self._of_critic(batch)
        return self._whole(batch)

    def _variants(self) -> list[_Variant]:
        return [self._whole] if self._of_critic is None else [self._whole, self._of_critic]


class _Variant:
    """An update in which certain groups learn, compiled as one function or, to reduce, as two.

    Args:
        functions: What is compiled.
        batch: An example.
        compiler: Compiles.
        all_reduce: Sums a tensor over all processes, in place; None if there is one process.
    """

    def __init__(
        self,
        functions: UpdateFunctions,
        batch: Batch,
        compiler: Compiler,
        all_reduce: Callable[[Tensor], object] | None,
    ) -> None:
        self._functions = functions
        self._all_reduce = all_reduce
        self._state = functions.state()
        example = [*self._state, *batch]
        if all_reduce is None:
            self._pending = [compiler.begin(functions.update, example)]
        else:
            gradients = functions.example_gradients()
            self._count = len(gradients)
            self._pending = [
                compiler.begin(functions.gradient, example),
                compiler.begin(functions.step, [*self._state, *gradients]),
            ]
        self._run: Callable[[Batch], Diagnostics] | None = None

    @property
    def ready(self) -> bool:
        return self._run is not None

    @property
    def waits(self) -> bool:
        return any(pending.waits for pending in self._pending)

    def finish(self) -> None:
        functions = [pending.finish() for pending in self._pending]
        run = self._in_one_process(*functions) if len(functions) == 1 else self._reduced(*functions)
        on_cuda = self._state[0].device.type == "cuda"
        self._run = _CUDAGraph(run) if on_cuda and self._all_reduce is None else run

    def __call__(self, batch: Batch) -> Diagnostics:
        assert self._run is not None, "not compiled yet"
        return self._run(batch)

    def _in_one_process(self, update: Function) -> Callable[[Batch], Diagnostics]:
        def run(batch: Batch) -> Diagnostics:
            return self._functions.named(update([*self._state, *batch]))

        return run

    def _reduced(self, gradient: Function, step: Function) -> Callable[[Batch], Diagnostics]:
        """An update that sums the gradients of several processes itself, instead of through DDP."""
        all_reduce, count = self._all_reduce, self._count
        assert all_reduce is not None

        def run(batch: Batch) -> Diagnostics:
            found = gradient([*self._state, *batch])
            for flat in found[:count]:
                all_reduce(flat)
            step([*self._state, *found[:count]])
            return self._functions.named(found[count:])

        return run


def _addresses(module: nn.Module, optimizer: Adam) -> list[int]:
    """Memory addresses of the tensors that an update uses, and ids of the optimizer's groups."""
    tensors = [*module.parameters(), *module.buffers()]
    moments = [optimizer.state[group["params"][0]]["exp_avg"] for group in optimizer.param_groups]
    groups = [id(group) for group in optimizer.param_groups]
    return [*(tensor.data_ptr() for tensor in (*tensors, *moments)), *groups]


class _CUDAGraph:
    """Records a function of a batch as a CUDA graph, which replays an update in one launch.

    The first calls run without a graph, on a separate stream, as recording requires. A replay reads
    its batch from and writes its diagnostics to the same memory every time.
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
        for recorded, column in zip(self._batch, batch, strict=True):
            recorded.copy_(column, non_blocking=True)
        self._graph.replay()
        return self._diagnostics

    def _record(self, batch: Batch) -> None:
        self._batch = Batch(*(column.clone() for column in batch))
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on making CUDA calls, such as pinning memory.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._diagnostics = self._function(self._batch)
