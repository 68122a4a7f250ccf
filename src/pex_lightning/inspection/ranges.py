"""Ranges of a column's numbers; NaN and infinity are counted and otherwise ignored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.transitions import ACTION_TOLERANCE
from pex_lightning.errors import UserError


@dataclass(frozen=True)
class Numbers:
    """Statistics of one dimension over all rows; NaN if it has no finite value.

    Attributes:
        low: Minimum of finite values.
        high: Maximum of finite values.
        mean: Mean of finite values.
        std: Standard deviation of finite values.
        bad: Number of NaN and infinite values.
    """

    low: float
    high: float
    mean: float
    std: float
    bad: int

    @property
    def constant(self) -> bool:
        """Whether all finite values are equal."""
        return self.low == self.high


@dataclass(frozen=True)
class ActionSpace:
    """Bounds of actions.

    Attributes:
        name: Origin of the bounds.
        low: [act_dim] smallest action.
        high: [act_dim] largest action.
    """

    name: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ActionUse:
    """Position of actions in their space, with a tolerance of `ACTION_TOLERANCE`.

    Attributes:
        space: The space.
        at_bounds: [act_dim] fraction of rows with this number at a bound or beyond it.
        rows_outside: Number of rows outside the space, which a reader does not accept.
    """

    space: ActionSpace
    at_bounds: tuple[float, ...]
    rows_outside: int


def unit_space(column: Column) -> ActionSpace:
    """Return the action space that a reader assumes without an environment."""
    high = (1.0,) * column.width
    return ActionSpace("D4RL (no environment given)", tuple(-bound for bound in high), high)


def read_ranges(
    column: Column, space: ActionSpace | None, problems: list[str]
) -> tuple[tuple[Numbers, ...], ActionUse | None]:
    """Compute ranges of a column in one pass.

    Args:
        column: A matrix [N, D] or a vector.
        space: Action space to compare the values with, if any.
        problems: A description of NaN or infinite values is added to this list.

    Returns:
        [D] ranges and, if a space of D dimensions was given, the position of values in it.
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
    """Running minimum, maximum, mean and standard deviation of [rows, width] blocks."""

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
        # The numerically stable update of Chan, Golub and LeVeque.
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
    """Counts actions at the bounds of their space and outside the space."""

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
