"""The policy that collects, from some time on as one compiled function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pex_lightning.policies.policy_set import ActingPolicy, Choice, modules_of
from pex_lightning.updates.compilation.compiler import Compiler, Function, PendingFunction
from pex_lightning.updates.compilation.source import Layout


class CompiledActor:
    """Acts as ``policy`` does, and draws the same random numbers, a few times faster at one state.

    What the policy reads has to be in its modules' parameters and buffers.

    Args:
        policy: Acts until :meth:`use`, and wherever there is more than one state.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        self._policy = policy
        self._act: Function | None = None
        self._tensors: list[Tensor] = []
        self._state: Layout | None = None

    def act(self, observation: Tensor) -> Choice:
        """Choose actions for observations ``[B, obs_dim]``."""
        if self._act is None or Layout.of(observation) != self._state:
            return self._policy.act(observation)
        return Choice(*self._act([*self._tensors, observation]))

    def begin(self, compiler: Compiler, observation: Tensor) -> PendingFunction:
        """Begin to compile what is to be given to :meth:`use`, for ``[1, obs_dim]`` like this.

        Raises:
            CompilationError: It cannot be compiled.
        """
        module = _Act(self._policy)
        held = dict([*module.named_parameters(), *module.named_buffers()])
        self._tensors = [tensor.detach() for tensor in held.values()]

        def act(tensors: list[Tensor]) -> list[Tensor]:
            *given, state = tensors
            # The collector is outside of the trainer's autocast.
            with torch.autocast(state.device.type, enabled=False):
                result: list[Tensor] = torch.func.functional_call(
                    module, dict(zip(held, given, strict=True)), (state,)
                )
            return result

        self._state = Layout.of(observation)
        return compiler.begin(act, [*self._tensors, observation])

    def use(self, act: Function) -> None:
        """Act with it from now on."""
        self._act = act


class _Act(nn.Module):
    """A policy's ``act`` as the forward of a module that holds what it reads."""

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__()
        self._policy: Any = policy
        for name, module in modules_of(policy).items():
            self.add_module(name, module)

    def forward(self, observation: Tensor) -> list[Tensor]:
        choice = self._policy.act(observation)
        return [choice.action, choice.policy_index, choice.choice_probs]
