"""What an update asks of the module that it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pytorch_lightning import LightningModule

from pex_lightning.updates.batch import Batch, Losses


class UpdateRule(LightningModule, ABC):
    """The part of a method that is executed once for every gradient step, plain or compiled.

    Attributes:
        learning_rate: Of Adam, for all parameter groups, before :meth:`learning_rate_factors`.
    """

    learning_rate: float

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Every loss on one batch, computed from the networks as they are before the step."""

    def after_step(self) -> None:
        """What follows the optimizer's step, for example the target's Polyak step."""

    def learning_rate_factors(self, step: int) -> Mapping[str, float]:
        """Factors on the learning rates after ``step`` updates, by parameter group.

        A group that is left out keeps the factor 1. A function of the step alone, so that nothing
        of it has to be kept for a resume.
        """
        return {}
