"""Jump start: a guide acts at the beginning of an episode, the policy that learns after it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pex_lightning.policies.acting import Choice
from pex_lightning.policies.guided import GuidedPolicy
from pex_lightning.policies.policy_set import PolicySet


class GuideSteps(nn.Module, ABC):
    """Says for how many steps of an episode the guide acts."""

    @abstractmethod
    def draw(self, like: Tensor) -> Tensor:
        """Numbers of guide steps, drawn anew for each episode: `[B]` as `like`."""


class FixedHorizon(GuideSteps):
    """The same number for every episode, which a curriculum lowers.

    Args:
        most: The number at first.

    Attributes:
        steps: Scalar; a buffer, so that checkpoints and compiled code have it.
    """

    steps: Tensor

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.register_buffer("steps", torch.tensor(float(most)))

    def draw(self, like: Tensor) -> Tensor:
        """The present number."""
        return self.steps.expand_as(like)


class UniformHorizon(GuideSteps):
    """Uniform on 0, …, `most`.

    Args:
        most: The largest number of guide steps.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def draw(self, like: Tensor) -> Tensor:
        """Independent draws."""
        return torch.floor(torch.rand_like(like) * (self.most + 1)).clamp(max=self.most)


class GeometricHorizon(GuideSteps):
    """With probability `begins` the guide starts, and goes on with probability `goes_on` a step.

    Args:
        begins: Probability that the guide takes the first step.
        goes_on: Probability that it takes a further one.
    """

    def __init__(self, begins: float, goes_on: float) -> None:
        super().__init__()
        self.begins, self.goes_on = begins, goes_on

    def draw(self, like: Tensor) -> Tensor:
        """Independent draws: 0, or 1 and a geometric number."""
        if self.goes_on <= 0.0:
            more = torch.zeros_like(like)
        elif self.goes_on >= 1.0:
            more = torch.full_like(like, math.inf)
        else:
            # 1 - U is never 0, so that its logarithm is finite.
            more = torch.floor((1.0 - torch.rand_like(like)).log() / math.log(self.goes_on))
        return torch.where(torch.rand_like(like) < self.begins, 1.0 + more, 0.0)


class JumpStart(GuidedPolicy):
    """The guide for the first steps of an episode, the learning policy afterwards.

    Memory: the number of steps taken in the episode, and the number of guide steps drawn for it.

    Args:
        policies: Π = [guide, learner].
        guide_steps: Says how many steps the guide takes.
        guided_evaluation: Whether evaluation is guided too; else the learner is evaluated alone.
    """

    def __init__(
        self, policies: PolicySet, guide_steps: GuideSteps, guided_evaluation: bool
    ) -> None:
        super().__init__(policies, memory_size=2)
        self.guide_steps = guide_steps
        self.guided_evaluation = guided_evaluation

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """The guide's mode or a sample of the learner."""
        # Not as a decorator, through which a compiled update could not look.
        with torch.no_grad():
            guided, memory = self._whose_turn(memory)
            return self.take_turns(observation, guided, memory)

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The mode of the one whose turn it is."""
        if not self.guided_evaluation:
            return self.policies.learner.mode(observation), memory
        guided, memory = self._whose_turn(memory)
        guide, learner = self.policies.modes(observation)
        return torch.where(guided.unsqueeze(-1), guide, learner), memory

    @torch.no_grad()
    def decide(self, observation: Tensor, memory: Tensor) -> Choice:
        """The mode of the one whose turn it is in evaluation."""
        if not self.guided_evaluation:
            guided = torch.zeros_like(observation[:, 0], dtype=torch.bool)
            return self.take_turns_by_modes(observation, guided, memory)
        guided, memory = self._whose_turn(memory)
        return self.take_turns_by_modes(observation, guided, memory)

    @property
    def decides_by_memory(self) -> bool:
        """Only where evaluation is guided."""
        return self.guided_evaluation

    @property
    def unfinished(self) -> str | None:
        """That a curriculum's guide still acts."""
        if not isinstance(self.guide_steps, FixedHorizon) or not self.guide_steps.steps:
            return None
        steps = int(self.guide_steps.steps)
        return f"the offline policy still takes the first {steps:,} steps of every episode"

    def _whose_turn(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the guide acts, `[B]` bool, and the next memory."""
        taken, steps = memory.unbind(-1)
        steps = torch.where(taken == 0, self.guide_steps.draw(taken), steps)
        return taken < steps, torch.stack((taken + 1, steps), dim=-1)
