"""Policy expansion: a set of policies, and the composite policy that chooses between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.choice import boltzmann_probs, draw


@dataclass(frozen=True)
class Choice:
    """What a composite policy did at ``B`` states.

    Attributes:
        action: The chosen candidates, inside the action space, ``[B, action_dim]``.
        policy_index: Which member proposed each, ``[B]`` int64.
        choice_probs: Probability of each member, ``[B, M]``.
    """

    action: Tensor
    policy_index: Tensor
    choice_probs: Tensor


class PolicySet(nn.Module):
    """Π = [π_β, …, π_θ]: frozen members first, one learning member last.

    A frozen member proposes its mode, the learning member a sample (PEX, section 4); both are
    clipped to the action space, outside of which the critic was never trained.

    Args:
        frozen: Policies that never change; their parameters stop requiring gradients.
        learner: The policy that learns.

    Attributes:
        admission: How far the learner takes part in the choice, 0 (not at all) to 1 (as the
            paper has it); a buffer, so that a checkpoint says it.
    """

    admission: Tensor

    def __init__(self, frozen: Iterable[GaussianPolicy], learner: GaussianPolicy) -> None:
        super().__init__()
        self.frozen = nn.ModuleList(frozen)
        self.frozen.requires_grad_(False)
        self.learner = learner
        self.register_buffer("admission", torch.ones(()))

    def __len__(self) -> int:
        """Number of members."""
        return len(self.frozen) + 1

    def modes(self, observation: Tensor) -> Tensor:
        """Every member's mode: ``[B, obs_dim] -> [M, B, action_dim]``."""
        members = [*self._frozen(), self.learner]
        return torch.stack([member.mode(observation) for member in members])

    def candidates(self, observation: Tensor) -> Tensor:
        """What each member proposes when acting: ``[B, obs_dim] -> [M, B, action_dim]``."""
        proposals = [member.mode(observation) for member in self._frozen()]
        proposals.append(self.learner.sample(observation))
        return torch.stack(proposals)

    def _frozen(self) -> list[GaussianPolicy]:
        return cast(list[GaussianPolicy], list(self.frozen))


class CompositePolicy:
    """The policy that acts: every member proposes, and the critic's values choose.

    P(i|s) = softmax_i(inv_temperature · min_k Q_k(s, a_i)) with the online critic (PEX, eq. 5).
    While the learner's ``admission`` λ is below 1, a choice among all members is made with
    probability λ and one among the frozen members alone otherwise. It holds references, no
    copies: what the optimiser changes is in effect at once.

    Args:
        policies: The set Π.
        critic: Judges the candidates.
        inv_temperature: PEX's α.
        eval_epsilon: In evaluation, the probability with which the learner's mode, and
            independently the greedy choice, is replaced by a sample.
    """

    def __init__(
        self, policies: PolicySet, critic: Critic, inv_temperature: float, eval_epsilon: float
    ) -> None:
        self.policies = policies
        self.critic = critic
        self.inv_temperature = inv_temperature
        self.eval_epsilon = eval_epsilon

    def act(self, observation: Tensor) -> Choice:
        """Propose, choose, and say who acted: ``[B, obs_dim]``."""
        # Not as a decorator, through which a compiled update could not look.
        with torch.no_grad():
            candidates = self.policies.candidates(observation)
            probs = self.choice_probs(observation, candidates)
            index = draw(probs)
            return Choice(_take(candidates, index), index, probs)

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor) -> Tensor:
        """Modes and the greedy choice, each sampled with probability ``eval_epsilon``.

        Returns ``[B, action_dim]``.
        """
        batch, device = observation.shape[0], observation.device
        candidates = self.policies.modes(observation)
        explore = torch.rand(batch, 1, device=device) < self.eval_epsilon
        sampled = self.policies.learner.perturb(candidates[-1])
        candidates[-1] = torch.where(explore, sampled, candidates[-1])
        frozen, every = self._probs(observation, candidates)
        admitted = torch.rand(batch, device=device) < self.policies.admission
        greedy = torch.where(admitted, every.argmax(-1), frozen.argmax(-1))
        explore = torch.rand(batch, device=device) < self.eval_epsilon
        sampled_index = draw(torch.lerp(frozen, every, self.policies.admission))
        return _take(candidates, torch.where(explore, sampled_index, greedy))

    def choice_probs(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """P(i|s) for candidates ``[M, B, action_dim]``; returns ``[B, M]``."""
        frozen, every = self._probs(observation, candidates)
        return torch.lerp(frozen, every, self.policies.admission)

    def _probs(self, observation: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """P(i|s) among the frozen members alone, and among all: ``[B, M]`` each."""
        members, batch, _ = candidates.shape
        states = observation.expand(members, *observation.shape).reshape(members * batch, -1)
        q = self.critic.q(states, candidates.reshape(members * batch, -1)).amin(0)
        q = q.view(members, batch)
        frozen = boltzmann_probs(q[:-1], self.inv_temperature)
        every = boltzmann_probs(q, self.inv_temperature)
        return torch.nn.functional.pad(frozen, (0, 1)), every


class SinglePolicy:
    """The policy that acts where there is only one: samples to collect, the mode to evaluate."""

    def __init__(self, policy: GaussianPolicy) -> None:
        self.policy = policy

    @torch.no_grad()
    def act(self, observation: Tensor) -> Choice:
        """A clipped sample: ``[B, obs_dim]``; the choice is certain."""
        action = self.policy.sample(observation)
        index = torch.zeros(action.shape[0], dtype=torch.int64, device=action.device)
        return Choice(action, index, action.new_ones(action.shape[0], 1))

    @torch.no_grad()
    def evaluation_action(self, observation: Tensor) -> Tensor:
        """The mode: ``[B, obs_dim] -> [B, action_dim]``."""
        return self.policy.mode(observation)


ActingPolicy = CompositePolicy | SinglePolicy


def modules_of(policy: Any) -> dict[str, nn.Module]:
    """The modules that a policy acts with, by the names of its attributes."""
    return {name: value for name, value in vars(policy).items() if isinstance(value, nn.Module)}


def _take(candidates: Tensor, index: Tensor) -> Tensor:
    """Rows of ``candidates`` ``[M, B, A]`` at ``index`` ``[B]``: ``[B, A]``."""
    rows = torch.arange(index.shape[0], device=index.device)
    return candidates[index, rows]
