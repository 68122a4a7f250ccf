"""Ranges of numbers that are read in blocks, NaN and infinity tolerated and counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.transitions import ACTION_TOLERANCE
from pex_lightning.errors import UserError


@dataclass(frozen=True)
class Numbers:
    """One number of every row, such as a dimension of the observation.

    Attributes:
        low: The smallest; NaN if none is finite. NaN and infinity are left out here and below.
        high: The largest.
        mean: Their mean.
        std: Their standard deviation.
        bad: How many are NaN or infinite.
    """

    low: float
    high: float
    mean: float
    std: float
    bad: int

    @property
    def constant(self) -> bool:
        """Whether every finite value is the same."""
        return self.low == self.high


@dataclass(frozen=True)
class ActionSpace:
    """The bounds that actions are held against.

    Attributes:
        name: Whose they are.
        low: [act_dim] smallest action.
        high: [act_dim] largest action.
    """

    name: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ActionUse:
    """How the actions lie in their space.

    Attributes:
        space: The space.
        at_bounds: [act_dim] share of rows in which this number is at a bound or beyond it, give
            or take `ACTION_TOLERANCE` of half the range.
        rows_outside: Rows with a number outside by more than that; a reader refuses them.
    """

    space: ActionSpace
    at_bounds: tuple[float, ...]
    rows_outside: int


def unit_space(column: Column) -> ActionSpace:
    """The bounds that a reader takes where no environment is known."""
    high = (1.0,) * column.width
    return ActionSpace("D4RL (no environment given)", tuple(-bound for bound in high), high)


def read_ranges(
    column: Column, space: ActionSpace | None, problems: list[str]
) -> tuple[tuple[Numbers, ...], ActionUse | None]:
    """Go through a matrix once.

    Args:
        column: The matrix [N, D], or a vector.
        space: Bounds to hold it against, if any.
        problems: A sentence is added to it if values are NaN or infinite.

    Returns:
        [D] ranges and, if a space of D dimensions was given, how the values lie in it.
    """
    moments = _Moments(column.width)
    use = _Bounds(space) if space is not None and len(space.low) == column.width else None
    try:
        for _, block in column.blocks():
            moments.add(block)
            if use is not None:
                use.add(block)
    except UserError as error:
        problems.append(str(error))
    return moments.result(), use.result(len(column)) if use is not None else None


class _Moments:
    """Running smallest, largest, mean and standard deviation of [rows, width] blocks."""

    def __init__(self, width: int) -> None:
        self.low = np.full(width, np.inf)
        self.high = np.full(width, -np.inf)
        self.count = np.zeros(width, dtype=np.int64)
        self.bad = np.zeros(width, dtype=np.int64)
        self.mean = np.zeros(width)
        self.squares = np.zeros(width)

    def add(self, block: np.ndarray) -> None:
        finite = np.isfinite(block)
        values = block.astype(np.float64)
        whole = bool(finite.all())
        count = np.full(block.shape[1], len(block)) if whole else finite.sum(axis=0)
        self.bad += len(block) - count
        low = values if whole else np.where(finite, values, np.inf)
        high = values if whole else np.where(finite, values, -np.inf)
        self.low = np.minimum(self.low, low.min(axis=0))
        self.high = np.maximum(self.high, high.max(axis=0))
        if not whole:
            values[~finite] = 0.0
        # Chan, Golub and LeVeque's update: stable, where a difference of squares is not.
        mean = values.sum(axis=0) / np.maximum(count, 1)
        values -= mean
        if not whole:
            values[~finite] = 0.0
        total = np.maximum(self.count + count, 1)
        offset = mean - self.mean
        np.square(values, out=values)
        self.squares += values.sum(axis=0) + offset**2 * self.count * count / total
        self.mean += offset * count / total
        self.count += count

    def result(self) -> tuple[Numbers, ...]:
        std = np.sqrt(self.squares / np.maximum(self.count, 1))
        found = np.stack((self.low, self.high, self.mean, std))
        found[:, self.count == 0] = math.nan
        return tuple(
            Numbers(low, high, mean, deviation, bad)
            for (low, high, mean, deviation), bad in zip(
                found.T.tolist(), self.bad.tolist(), strict=True
            )
        )


class _Bounds:
    """Counts actions at the bounds of their space and outside of it."""

    def __init__(self, space: ActionSpace) -> None:
        self.space = space
        low, high = np.array(space.low), np.array(space.high)
        margin = ACTION_TOLERANCE * (high - low) / 2
        self.inner = np.float32(low + margin), np.float32(high - margin)
        self.outer = np.float32(low - margin), np.float32(high + margin)
        self.at = np.zeros(len(low), dtype=np.int64)
        self.rows_outside = 0

    def add(self, block: np.ndarray) -> None:
        self.at += ((block <= self.inner[0]) | (block >= self.inner[1])).sum(axis=0)
        outside = (block < self.outer[0]) | (block > self.outer[1])
        self.rows_outside += int(outside.any(axis=1).sum())

    def result(self, rows: int) -> ActionUse:
        return ActionUse(self.space, tuple((self.at / rows).tolist()), self.rows_outside)
