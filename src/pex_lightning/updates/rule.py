"""The interface between an update and the module that it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pytorch_lightning import LightningModule

from pex_lightning.updates.batch import Batch, Losses

CRITIC_GROUPS = frozenset(("q", "v"))
"""The parameter groups that learn in every update."""


class UpdateRule(LightningModule, ABC):
    """A module with the parts of a gradient step that depend on the method.

    Attributes:
        learning_rate: Adam's learning rate, before `learning_rate_factors`.
        actor_every: In how many updates the groups other than `CRITIC_GROUPS` learn once.
    """

    learning_rate: float
    actor_every: int = 1

    def critic_alone(self, step: int) -> bool:
        """Whether only the critic learns in the update that follows `step` updates."""
        return (step + 1) % self.actor_every != 0

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Compute all losses on one batch, with the networks as they are before the step."""

    def after_step(self) -> None:
        """Do what follows the optimizer's step, for example a Polyak step of the target network."""

    def learning_rate_factors(self, step: int) -> Mapping[str, float]:
        """Factors on the learning rates after `step` updates, by parameter group.

        Missing groups have the factor 1. The factors depend on `step` alone, so that a resumed
        run needs no further state.
        """
        return {}

    def uncompiled_reason(self) -> str | None:
        """Why losses cannot be compiled, where that is known beforehand; None if they can."""
        return None
