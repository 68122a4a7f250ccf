"""What a compiled update consists of, as functions of one list of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pex_lightning.updates.batch import Batch, Diagnostics, Losses
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.flat_adam import FlatGroup, FlatTensors
from pex_lightning.updates.rule import UpdateRule


class UpdateFunctions:
    """A whole update and its two halves, each as a function of one list of tensors.

    The list begins with the tensors of `state()`; for `update` and `gradient` the columns of
    the batch follow, for `step` the gradients.

    Args:
        rule: The module that learns.
        groups: The groups that learn.
        resting: The groups that do not learn in this update.
        clipping: Limit of the gradient.
        world_size: Number of processes.
    """

    def __init__(
        self,
        rule: UpdateRule,
        groups: list[FlatGroup],
        resting: list[FlatGroup],
        clipping: Clipping,
        world_size: int,
    ) -> None:
        self._losses = _MethodWithTensors(rule, rule.losses)
        self._after_step = _MethodWithTensors(rule, rule.after_step)
        self._groups = groups
        self._learning = {group.settings["name"] for group in groups}
        self._all = self._learning | {group.settings["name"] for group in resting}
        self._clipping = clipping
        self._world_size = world_size
        learnt = {name for group in groups for name in group.names}
        held = [*rule.named_parameters(), *rule.named_buffers()]
        self._held = {name: tensor.detach() for name, tensor in held if name not in learnt}
        self._diagnostics: list[str] = []

    def example_gradients(self) -> list[Tensor]:
        """Tensors like the gradients that `gradient` returns."""
        return [torch.empty_like(group.tensors.parameters) for group in self._groups]

    def state(self) -> list[Tensor]:
        """The tensors of all groups, then the module's other parameters and buffers."""
        return [*(t for group in self._groups for t in group.tensors), *self._held.values()]

    def named(self, diagnostics: list[Tensor]) -> Diagnostics:
        """The diagnostics that `update` and `gradient` return, by name."""
        return dict(zip(self._diagnostics, diagnostics, strict=True))

    def update(self, tensors: list[Tensor]) -> list[Tensor]:
        """Take one gradient step in place; return the diagnostics."""
        given = iter(tensors)
        groups, held = self._take_state(given)
        gradients, diagnostics = self._gradients(groups, held, Batch(*given))
        self._step(groups, held, gradients)
        return diagnostics

    def gradient(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the gradient `[P]` of the summed losses for each group, then the diagnostics."""
        given = iter(tensors)
        groups, held = self._take_state(given)
        gradients, diagnostics = self._gradients(groups, held, Batch(*given))
        return [*gradients, *diagnostics]

    def step(self, tensors: list[Tensor]) -> list[Tensor]:
        """Apply a gradient `[P]` for each group in place, then the rule's `after_step`."""
        given = iter(tensors)
        groups, held = self._take_state(given)
        self._step(groups, held, list(given))
        return []

    def _take_state(self, given: Iterator[Tensor]) -> tuple[list[FlatGroup], dict[str, Tensor]]:
        """Take the groups and the held tensors, as `state()` lists them, from an iterator."""
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
            losses.check_terms(self._all)
            if self._learning != self._all:
                losses = losses.only(self._learning)
            return losses.total, losses.results()

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


class _MethodWithTensors(nn.Module):
    """Calls a module's method with other tensors in place of its parameters and buffers."""

    def __init__(self, module: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self._method = method

    def forward(self, *args: Any) -> Any:
        return self._method(*args)

    def called(self, tensors: dict[str, Tensor], *args: Any) -> Any:
        """Call the method with `tensors`, by their names in the module."""
        renamed = {f"module.{name}": tensor for name, tensor in tensors.items()}
        return torch.func.functional_call(self, renamed, args)
