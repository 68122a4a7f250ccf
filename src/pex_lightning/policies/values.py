"""Values by which a composite policy chooses between the candidates of its members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from pex_lightning.nn.critic import Critic
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.schedule import progress

Bound = Literal["min", "mean", "upper", "lower"]

RPEX_LOWEST, RPEX_HIGHEST, RPEX_SMALLEST_DENSITY = -1e4, 100.0, 1e-6


class QEnsemble(Protocol):
    """What gives Q of every member: `[B, obs_dim], [B, action_dim] -> [num_q, B]`."""

    def q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q of every member of the ensemble."""


class CandidateValues(nn.Module, ABC):
    """Values of actions that the members of a policy set propose."""

    @abstractmethod
    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """Values of `[M, B, action_dim]` at states `[B, obs_dim]`: `[M, B]`."""


class CriticValues(CandidateValues):
    """One number of a critic's ensemble for each candidate; the target is not asked.

    Args:
        critic: The critic.
        bound: `min` is the smallest value (PEX, arXiv 2302.00935, section 4), `mean` the mean;
            `upper` and `lower` are the mean plus and minus `width` standard deviations over the
            ensemble (an upper confidence bound, and its pessimistic twin).
        width: Standard deviations.
    """

    def __init__(self, critic: QEnsemble, bound: Bound = "min", width: float = 1.0) -> None:
        super().__init__()
        # A module among the arguments becomes a submodule.
        self.critic = critic
        self.bound = bound
        self.width = {"upper": width, "lower": -width}.get(bound, 0.0)

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """Values of all candidates, in one call of the critic."""
        members, batch, _ = candidates.shape
        states = observation.expand(members, *observation.shape).reshape(members * batch, -1)
        q = self.critic.q(states, candidates.reshape(members * batch, -1))
        if self.bound == "min":
            return q.amin(0).view(members, batch)
        values = q.mean(0)
        if self.width:
            values = values + self.width * q.std(0, correction=0)
        return values.view(members, batch)


class BlendWeight(nn.Module):
    """The weight w of the online critic, which grows from 0 to 1.

    Args:
        steps: Gradient steps on the way; 0 is 1 at once.

    Attributes:
        value: w, a scalar; a buffer, so that checkpoints and compiled code have it.
    """

    value: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("value", torch.zeros(()))

    def follow(self, step: int) -> None:
        """Set w for a number of gradient steps."""
        self.value.fill_(progress(step, self.steps))


class BlendedValues(CandidateValues):
    """(1 − w) · Q_offline + w · Q_online.

    Args:
        offline: Values of the critic as the offline stage left it.
        online: Values of the critic that learns.
        weight: w.
    """

    def __init__(
        self, offline: CandidateValues, online: CandidateValues, weight: BlendWeight
    ) -> None:
        super().__init__()
        self.offline, self.online, self.weight = offline, online, weight

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """The weighted sum."""
        offline = self.offline(observation, candidates)
        return torch.lerp(offline, self.online(observation, candidates), self.weight.value)


class LargerValues(CandidateValues):
    """max(Q_offline, Q_online).

    Args:
        offline: Values of the critic as the offline stage left it.
        online: Values of the critic that learns.
    """

    def __init__(self, offline: CandidateValues, online: CandidateValues) -> None:
        super().__init__()
        self.offline, self.online = offline, online

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """The larger of the two."""
        offline = self.offline(observation, candidates)
        return torch.maximum(offline, self.online(observation, candidates))


class RobustValues(CandidateValues):
    """Values with RPEX's term (NeurIPS 2025), which favours what a member rarely does.

    RPEX adds `scale · clip(A / (π_i(a_i) + 1e-6), −1e4, 100)` to the logits of the choice, with
    A = Q(s, a_i) − V(s). Divided by the inverse temperature, it is added to the values here.

    Args:
        values: Q(s, a_i).
        critic: Gives V.
        policies: The policy set, whose densities are asked.
        scale: 0.1 in the paper.
        inv_temperature: Of the choice; above 0.
    """

    _critic: Critic
    _policies: PolicySet

    def __init__(
        self,
        values: CandidateValues,
        critic: Critic,
        policies: PolicySet,
        scale: float,
        inv_temperature: float,
    ) -> None:
        super().__init__()
        self.values = values
        # The critic and the policies are parts of the composite policy already. A module that is
        # registered twice is not restored after a functional call.
        object.__setattr__(self, "_critic", critic)
        object.__setattr__(self, "_policies", policies)
        self.scale = scale / inv_temperature

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """The values and the term."""
        values: Tensor = self.values(observation, candidates)
        density = self._policies.log_probs(observation, candidates).exp()
        ratio = (values - self._critic.v(observation)) / (density + RPEX_SMALLEST_DENSITY)
        return values + self.scale * ratio.clamp(RPEX_LOWEST, RPEX_HIGHEST)
