"""Policies whose evaluation a signal breaks off."""

from __future__ import annotations

import torch

from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.policies.acting import ActingPolicy, Choice, PolicyFunction


class BrokenOffError(Exception):
    """An evaluation was broken off by a signal; its episodes are discarded."""


class _Interruptible(ActingPolicy):
    """Acts as `policy` does, but raises once a signal was received."""

    def __init__(self, policy: ActingPolicy, interrupt: GracefulInterrupt) -> None:
        super().__init__(policy.members, policy.memory_size)
        self.policy = policy
        self._interrupt = interrupt

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        return self.policy.act(observation, memory)

    def evaluation_action(
        self, observation: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._interrupt.received:
            raise BrokenOffError
        return self.policy.evaluation_action(observation, memory)


def interruptible(
    policy: ActingPolicy | PolicyFunction, interrupt: GracefulInterrupt
) -> ActingPolicy | PolicyFunction:
    """The same policy, which raises `BrokenOffError` once a signal was received."""
    if isinstance(policy, ActingPolicy):
        return _Interruptible(policy, interrupt)

    def checked(observation: torch.Tensor) -> torch.Tensor:
        if interrupt.received:
            raise BrokenOffError
        return policy(observation)

    return checked
