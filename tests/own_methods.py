"""Methods and data modules as users write them in modules of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from pex_lightning.algorithms import OnlineIQL
from pex_lightning.data.online import OnlineData
from pex_lightning.policies.acting import ActingPolicy, Choice


class Clock(ActingPolicy):
    """Acts as `policy` does, and says the step of the episode, a hundredth of it, as a probability.

    The second number of the memory is twice the step.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__(("clock",), memory_size=2)
        self.policy = policy

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        choice = self.policy.act(observation, self.policy.initial_memory(observation))
        following = memory + torch.tensor([1.0, 2.0], device=memory.device)
        return Choice(choice.action, choice.policy_index, memory[:, :1] / 100, following)

    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        # At step t the first number of the action is t / 10.
        action = memory / torch.tensor([10.0, 100.0])
        return action, memory + torch.tensor([1.0, 2.0])


class Clocked(OnlineIQL):
    """A method whose acting policy remembers something within an episode."""

    def acting_policy(self) -> ActingPolicy:
        return Clock(super().acting_policy())


class OwnData(OnlineData):
    """A data module of a user's."""


class Renamed(OwnData):
    """The same, after the user renamed it."""
