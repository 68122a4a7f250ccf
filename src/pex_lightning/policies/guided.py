"""Policies that act by turns: a guide, and the policy that learns."""

from __future__ import annotations

import torch
from torch import Tensor

from pex_lightning.policies.acting import ActingPolicy, Choice, PolicyFunction
from pex_lightning.policies.policy_set import PolicySet


class GuidedPolicy(ActingPolicy):
    """Base of policies in which either the guide or the learner has its turn.

    Args:
        policies: Π = [guide, learner].
        memory_size: As for ActingPolicy.
    """

    def __init__(self, policies: PolicySet, memory_size: int) -> None:
        super().__init__(policies.names, memory_size)
        self.policies = policies

    def take_turns(self, observation: Tensor, guided: Tensor, memory: Tensor) -> Choice:
        """The guide's mode where it is its turn, else a sample of the learner.

        Args:
            observation: `[B, obs_dim]`.
            guided: Whether it is the guide's turn, `[B]` bool.
            memory: What is remembered at the next step, `[B, memory_size]`.
        """
        return _turns(self.policies.candidates(observation), guided, memory)

    def take_turns_by_modes(self, observation: Tensor, guided: Tensor, memory: Tensor) -> Choice:
        """As `take_turns`, with the learner's mode."""
        return _turns(self.policies.modes(observation), guided, memory)

    def alone(self, member: int) -> PolicyFunction:
        """The mode of the guide or of the learner."""
        return self.policies.mode_of(member)


def _turns(candidates: Tensor, guided: Tensor, memory: Tensor) -> Choice:
    guide, learner = candidates
    action = torch.where(guided.unsqueeze(-1), guide, learner)
    probs = torch.stack((guided, ~guided), dim=-1).to(action.dtype)
    return Choice(action, (~guided).long(), probs, memory)
