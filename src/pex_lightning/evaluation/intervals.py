"""Intervals of what an evaluation's episodes say about a policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower end of the interval; NaN if the spread of the episodes is not known.
        high: Its upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether the interval is known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def scaled(self, factor: float, shift: float = 0.0) -> Estimate:
        """The same in other units, `factor` above 0."""
        low, high = (factor * end + shift for end in (self.low, self.high))
        return Estimate(factor * self.value + shift, low, high)

    def is_below(self, other: Estimate) -> bool:
        """Whether it is lower than the other by more than chance; any amount without intervals.

        The 95 % interval of the difference lies below zero (Newcombe 1998, method 10, which takes
        the distances from the means to the ends of the two intervals).
        """
        difference = other.value - self.value
        if difference <= 0 or not (self.has_interval and other.has_interval):
            return difference > 0
        return difference > math.hypot(self.high - self.value, other.value - other.low)


def of_rate(rate: float, episodes: int) -> Estimate:
    """A share of episodes, 0 to 1, with Wilson's interval (1927)."""
    square = _Z * _Z / episodes
    centre = (rate + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(rate * (1 - rate) / episodes + square / (4 * episodes))
    # At a rate of 0 or 1 the end is the rate itself, up to rounding.
    return Estimate(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))


def of_mean(mean: float, std: float, episodes: int) -> Estimate:
    """A mean with mean ± 1.96 · std / √episodes, `std` being that of the episodes."""
    half = _Z * std / math.sqrt(episodes)
    return Estimate(mean, mean - half, mean + half)
