"""An acting policy whose `act` can be replaced by a compiled function during a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pex_lightning.policies.acting import ActingPolicy, Choice
from pex_lightning.updates.compilation.compiler import Compiler, Function, PendingFunction
from pex_lightning.updates.compilation.source import Layout


class CompiledPolicy(ActingPolicy):
    """Acts as `policy` does, with the same random numbers, but faster for a single state.

    The policy may read nothing that changes other than its parameters and buffers.

    Args:
        policy: Acts until `use` is called, and for inputs other than a single state.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__(policy.members, policy.memory_size)
        self.policy = policy
        self._act: Function | None = None
        self._tensors: list[Tensor] = []
        self._state: Layout | None = None

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """Choose actions for `[B, obs_dim]` and memories `[B, memory_size]`."""
        if self._act is None or Layout.of(observation) != self._state:
            return self.policy.act(observation, memory)
        if self.memory_size == 0:
            action, index, probs = self._act([*self._tensors, observation])
            return Choice(action, index, probs, memory)
        return Choice(*self._act([*self._tensors, observation, memory]))

    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Choose actions for an evaluation, as `policy` does."""
        return self.policy.evaluation_action(observation, memory)

    def begin(self, compiler: Compiler, observation: Tensor) -> PendingFunction:
        """Begin to compile `act` for one state `[1, obs_dim]`; give the result to `use`.

        Raises:
            CompilationError: The policy cannot be compiled.
        """
        module = _Act(self.policy)
        held = dict([*module.named_parameters(), *module.named_buffers()])
        self._tensors = [tensor.detach() for tensor in held.values()]
        count = len(self._tensors)

        def act(tensors: list[Tensor]) -> list[Tensor]:
            given = dict(zip(held, tensors[:count], strict=True))
            # The collector acts outside the trainer's autocast.
            with torch.autocast(observation.device.type, enabled=False):
                result: list[Tensor] = torch.func.functional_call(
                    module, given, tuple(tensors[count:])
                )
            return result

        self._state = Layout.of(observation)
        # The compiler is given no tensors without elements.
        memory = [self.policy.initial_memory(observation)] if self.memory_size else []
        return compiler.begin(act, [*self._tensors, observation, *memory])

    def use(self, act: Function) -> None:
        """Use the compiled `act` from now on."""
        self._act = act


class _Act(nn.Module):
    """A module whose `forward` is a policy's `act`, with the result as a list of tensors."""

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> list[Tensor]:
        if memory is not None:
            return list(self.policy.act(observation, memory))
        choice = self.policy.act(observation, self.policy.initial_memory(observation))
        return list(choice[:-1])
