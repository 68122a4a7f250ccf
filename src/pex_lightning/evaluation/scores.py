"""D4RL's normalised scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pex_lightning.errors import UserError

Return = TypeVar("Return", float, np.ndarray)


@dataclass(frozen=True)
class ScoreReference:
    """The returns to which D4RL's normalised score assigns 0 and 100.

    Attributes:
        minimum: Return of D4RL's random policy.
        maximum: Return of D4RL's expert.

    Raises:
        UserError: The maximum is not above the minimum, or a value is not finite.
    """

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        finite = math.isfinite(self.minimum) and math.isfinite(self.maximum)
        if not finite or self.maximum <= self.minimum:
            raise UserError(
                f"score reference: found minimum {self.minimum:g} and maximum {self.maximum:g}, "
                f"expected two finite numbers with the maximum above the minimum."
            )

    def score(self, raw_return: Return) -> Return:
        """Compute D4RL's normalised score 100 · (R − min) / (max − min) (arXiv 2004.07219).

        Args:
            raw_return: Undiscounted return R without reward transform; a number or [E].
        """
        return (raw_return - self.minimum) * (100.0 / (self.maximum - self.minimum))
