"""The composite policy: every member proposes an action, and a rule chooses by their values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pex_lightning.policies.acting import ActingPolicy, Choice, PolicyFunction
from pex_lightning.policies.choice import ChoiceRule, draw
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.values import CandidateValues


class CompositePolicy(ActingPolicy):
    """Acts with one of the candidates of a policy set (PEX, arXiv 2302.00935, section 4).

    Args:
        policies: The policy set Π.
        values: Values of the members' candidates.
        rule: The choice between members by the values of their candidates.
        eval_epsilon: In evaluation, the probability with which the learning member's mode, and
            independently the best choice, is replaced by a sample.
        memory_size: As for ActingPolicy.
    """

    def __init__(
        self,
        policies: PolicySet,
        values: CandidateValues,
        rule: ChoiceRule,
        eval_epsilon: float,
        memory_size: int = 0,
    ) -> None:
        super().__init__(policies.names, memory_size)
        self.policies = policies
        self.values = values
        self.rule = rule
        self.eval_epsilon = eval_epsilon

    def act(self, observation: Tensor, memory: Tensor) -> Choice:
        """Draw one of the candidates at every state."""
        return self.choose(observation, memory)[0]

    def choose(self, observation: Tensor, memory: Tensor) -> tuple[Choice, Tensor]:
        """As `act`, with the values of the candidates, `[M, B]`."""
        # Not as a decorator, through which a compiled update could not look.
        with torch.no_grad():
            candidates = self.policies.candidates(observation)
            values = self.values(observation, candidates)
            probs, memory = self.probs(values, memory)
            index = draw(probs)
            return Choice(_rows(candidates, index), index, probs, memory), values

    def probs(self, values: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """P(i|s) to collect with, `[B, M]`, for values `[M, B]`; and the next memory."""
        return self.rule.probs(values, self.policies.filled), memory

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Modes and the best choice, each replaced by a sample with `eval_epsilon`."""
        batch, device = observation.shape[0], observation.device
        candidates = self.policies.modes(observation)
        explore = torch.rand(batch, 1, device=device) < self.eval_epsilon
        sampled = self.policies.learner.sample(observation)
        candidates[-1] = torch.where(explore, sampled, candidates[-1])
        values = self.values(observation, candidates)
        best = self.rule.best(values, self.policies.filled)
        explore = torch.rand(batch, device=device) < self.eval_epsilon
        index = torch.where(explore, draw(self.rule.probs(values, self.policies.filled)), best)
        return _rows(candidates, index), memory

    @torch.no_grad()
    def decide(self, observation: Tensor, memory: Tensor) -> Choice:
        """Modes, and the best choice; `choice_probs` are those of the rule for the modes."""
        candidates = self.policies.modes(observation)
        values = self.values(observation, candidates)
        index = self.rule.decide(values, self.policies.filled)
        probs = self.rule.probs(values, self.policies.filled)
        return Choice(_rows(candidates, index), index, probs, memory)

    @torch.no_grad()
    def diagnose(self, observation: Tensor) -> Mapping[str, Tensor]:
        """`q/<member>`, the value of each candidate; `admitted`; what the rule says."""
        values = self.values(observation, self.policies.candidates(observation))
        found = {
            f"q/{name}": value
            for number, (name, value) in enumerate(zip(self.members, values.mean(-1), strict=True))
            if self.policies.is_filled(number)
        }
        filled = self.policies.filled
        return {**found, "admitted": values.new_ones(()), **self.rule.diagnose(values, filled)}

    @property
    def unfinished(self) -> str | None:
        """As the rule says."""
        return self.rule.unfinished

    def alone(self, member: int) -> PolicyFunction | None:
        """The mode of one member of Π; None of a place that is not filled."""
        if not self.policies.is_filled(member):
            return None
        return self.policies.mode_of(member)


def _rows(candidates: Tensor, index: Tensor) -> Tensor:
    """Rows of `candidates` `[M, B, A]` at `index` `[B]`: `[B, A]`."""
    return candidates[index, torch.arange(index.shape[0], device=index.device)]
