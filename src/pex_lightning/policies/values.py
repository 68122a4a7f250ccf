"""Values by which a composite policy chooses between the candidates of its members."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from pex_lightning.nn.critic import Critic


class CandidateValues(nn.Module, ABC):
    """Values of actions that the members of a policy set propose."""

    @abstractmethod
    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """Values of `[M, B, action_dim]` at states `[B, obs_dim]`: `[M, B]`."""


class SmallestQ(CandidateValues):
    """min_k Q_k(s, a_i) of the online critic (PEX, arXiv 2302.00935, section 4).

    Args:
        critic: The critic; its target is not asked.
    """

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """The smallest value over the ensemble, all candidates in one call."""
        members, batch, _ = candidates.shape
        states = observation.expand(members, *observation.shape).reshape(members * batch, -1)
        q = self.critic.q(states, candidates.reshape(members * batch, -1)).amin(0)
        return q.view(members, batch)
