"""The interface between an update and the module that it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pytorch_lightning import LightningModule

from pex_lightning.updates.batch import Batch, Losses


class UpdateRule(LightningModule, ABC):
    """A module with the parts of a gradient step that depend on the method.

    Attributes:
        learning_rate: Adam's learning rate, before `learning_rate_factors`.
    """

    learning_rate: float

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
