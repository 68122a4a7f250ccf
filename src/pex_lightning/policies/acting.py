"""Policies that act in an environment, with what they remember within an episode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pex_lightning.nn.policy import Policy

PolicyFunction = Callable[[Tensor], Tensor]
"""Maps observations `[n, obs_dim]` float32 to actions `[n, act_dim]`."""


class Choice(NamedTuple):
    """What an acting policy did at `B` states.

    Attributes:
        action: The chosen candidates, inside the action space, `[B, action_dim]`.
        policy_index: Which member proposed each, `[B]` int64; an index into `members`.
        choice_probs: Probability of each member, `[B, M]`.
        memory: What the policy remembers at the next step, `[B, memory_size]`.
    """

    action: Tensor
    policy_index: Tensor
    choice_probs: Tensor
    memory: Tensor


class Episode(NamedTuple):
    """An episode that was collected.

    Attributes:
        episode_return: Its undiscounted return, without reward transform.
        learner_took_part: Whether the last member, who learns, could be chosen in any step of it.
    """

    episode_return: float
    learner_took_part: bool


class ActingPolicy(nn.Module, ABC):
    """A policy that collects and is evaluated.

    It is a module, so that what its choices depend on can be moved, sent to other processes and
    compiled: all of that has to be in parameters and buffers. Memory is zero when an episode
    begins; whoever steps the environments keeps it for each of them and gives it back at the next
    step.

    Args:
        members: Names of the policies that take turns, in the order of `policy_index`.
        memory_size: Number of floats that are remembered from step to step within an episode.
    """

    def __init__(self, members: tuple[str, ...], memory_size: int = 0) -> None:
        super().__init__()
        self.members = members
        self.memory_size = memory_size

    @abstractmethod
    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """Choose actions to collect with: `[B, obs_dim]`, `[B, memory_size]`."""

    @abstractmethod
    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Actions to be judged by: `[B, action_dim]`, and the next `[B, memory_size]`."""

    def decide(self, observation: Tensor, memory: Tensor) -> Choice:
        """What it does where nothing is left to chance: `[B, obs_dim]`, `[B, memory_size]`.

        The same as in evaluation, where that draws no random numbers. By default this is what
        `evaluation_action` gives, and `policy_index` is -1 and `choice_probs` are 0 if there are
        several members, as it does not say which of them acts.
        """
        action, memory = self.evaluation_action(observation, memory)
        number = 0 if len(self.members) == 1 else -1
        index = torch.full(action.shape[:1], number, device=action.device)
        probs = action.new_full((action.shape[0], len(self.members)), float(number == 0))
        return Choice(action, index, probs, memory)

    @property
    def decides_by_memory(self) -> bool:
        """Whether what `decide` does depends on the memory."""
        return self.memory_size > 0

    def remembers(self, deterministic: bool) -> bool:
        """Whether its memory matters to `decide` (`deterministic`), or to `act`."""
        return self.decides_by_memory if deterministic else self.memory_size > 0

    @property
    def unfinished(self) -> str | None:
        """What still keeps the learning policy from acting, in words; None if nothing does."""
        return None

    def initial_memory(self, observation: Tensor) -> Tensor:
        """The memory with which episodes begin at `[B, obs_dim]`: zeros `[B, memory_size]`."""
        return observation.new_zeros(observation.shape[0], self.memory_size)

    def diagnose(self, observation: Tensor) -> Mapping[str, Tensor]:
        """Scalars that say how it would choose at `[B, obs_dim]`, by name; may draw samples.

        `admitted` is there where members are chosen by their values: the share of choices in which
        all members are candidates.
        """
        return {}

    def alone(self, member: int) -> PolicyFunction | None:
        """What one of the `members` does in evaluation; None if it cannot act alone."""
        return None


class SinglePolicy(ActingPolicy):
    """Acts where there is only one policy: samples to collect, the mode to evaluate.

    Args:
        policy: The policy.
        name: What it is called.
    """

    def __init__(self, policy: Policy, name: str = "policy") -> None:
        super().__init__((name,))
        self.policy = policy

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """A clipped sample; the choice is certain."""
        # Not as a decorator, through which a compiled update could not look.
        with torch.no_grad():
            action = self.policy.sample(observation)
            index = torch.zeros(action.shape[0], dtype=torch.int64, device=action.device)
            return Choice(action, index, action.new_ones(action.shape[0], 1), memory)

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The mode."""
        return self.policy.mode(observation), memory
