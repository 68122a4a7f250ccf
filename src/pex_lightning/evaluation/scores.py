"""D4RL's normalised scores."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pex_lightning.errors import UserError

Return = TypeVar("Return", float, np.ndarray)


@dataclass(frozen=True)
class ScoreReference:
    """Returns that a normalised score counts as 0 and as 100.

    Attributes:
        minimum: Return of D4RL's random policy.
        maximum: Return of D4RL's expert.

    Raises:
        UserError: The maximum is not above the minimum, or one is not finite.
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
        """Normalised score 100 · (R − min) / (max − min) of D4RL (arXiv 2004.07219).

        Args:
            raw_return: Undiscounted return R without reward transform; a number or [E].
        """
        return (raw_return - self.minimum) * (100.0 / (self.maximum - self.minimum))


_REFERENCES = {
    "HalfCheetah": ScoreReference(-280.178953, 12135.0),
    "Hopper": ScoreReference(-20.272305, 3234.3),
    "Walker2d": ScoreReference(1.629008, 4592.3),
    "AdroitHandPen": ScoreReference(96.262799, 3076.8331017826877),
    "AdroitHandHammer": ScoreReference(-274.856578, 12794.134825156867),
    "AdroitHandDoor": ScoreReference(-56.512833, 2880.5693087298737),
    "AdroitHandRelocate": ScoreReference(-6.425911, 4233.877797728884),
    "pex_lightning/AntMaze": ScoreReference(0.0, 1.0),
    "pex_lightning/PointMaze": ScoreReference(0.0, 1.0),
}
"""By family: an environment's id without module, version and, in our own mazes, layout."""

_OWN_NAMESPACE = "pex_lightning/"


def score_reference(env_id: str) -> ScoreReference | None:
    """D4RL's reference returns for an environment.

    Args:
        env_id: gymnasium id, such as `Hopper-v5` or `pex_lightning/AntMaze-umaze-v0`. All versions
            of an environment share one reference.

    Returns:
        The reference, or None where D4RL has none (scores are then not reported).
    """
    family = re.sub(r"-v\d+$", "", env_id.rpartition(":")[2])
    if family.startswith(_OWN_NAMESPACE):
        family = family.partition("-")[0]
    return _REFERENCES.get(family)
