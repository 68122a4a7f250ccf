"""Flights: now and then a guide acts for several steps in a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pex_lightning.policies.acting import Choice
from pex_lightning.policies.guided import GuidedPolicy
from pex_lightning.policies.policy_set import PolicySet


class ZetaLengths(nn.Module):
    """Lengths n of flights, with probabilities n^(−exponent) normalised over 1, …, `longest`.

    A zeta distribution that is cut off.

    Args:
        exponent: Large ones make short flights.
        longest: Largest length.
    """

    cumulative: Tensor

    def __init__(self, exponent: float, longest: int) -> None:
        super().__init__()
        weights = torch.arange(1, longest + 1, dtype=torch.float64) ** -exponent
        # It follows from the arguments, so no checkpoint needs it.
        cumulative = (weights.cumsum(0) / weights.sum()).float()
        self.register_buffer("cumulative", cumulative, persistent=False)

    def draw(self, like: Tensor) -> Tensor:
        """Independent lengths `[B]`, as floats."""
        drawn = torch.searchsorted(self.cumulative, torch.rand_like(like)) + 1
        # Rounding can leave the last sum a little below 1.
        return drawn.clamp(max=len(self.cumulative)).to(like.dtype)


class Flights(GuidedPolicy):
    """The learning policy, interrupted by flights of a guide.

    Memory: the number of steps that are left of a flight.

    Args:
        policies: Π = [guide, learner].
        lengths: Draws the lengths of flights.
        probability: Probability, at a step outside of a flight, that one begins.
    """

    def __init__(self, policies: PolicySet, lengths: ZetaLengths, probability: float) -> None:
        super().__init__(policies, memory_size=1)
        self.lengths = lengths
        self.probability = probability

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """The guide's mode in a flight, otherwise a sample of the learner."""
        # Not as a decorator, through which a compiled update could not look.
        with torch.no_grad():
            left = memory[:, 0]
            begins = (left <= 0) & (torch.rand_like(left) < self.probability)
            left = torch.where(begins, self.lengths.draw(left), left)
            memory = (left - 1).clamp(min=0).unsqueeze(-1)
            return self.take_turns(observation, left > 0, memory)

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The learner's mode."""
        return self.policies.learner.mode(observation), memory

    @torch.no_grad()
    def decide(self, observation: Tensor, memory: Tensor) -> Choice:
        """The learner's mode, as in evaluation."""
        guided = torch.zeros_like(observation[:, 0], dtype=torch.bool)
        return self.take_turns_by_modes(observation, guided, memory)

    @property
    def decides_by_memory(self) -> bool:
        """False: the learner alone is evaluated."""
        return False
