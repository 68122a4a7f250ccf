"""This package's IQL, its update compiled."""

from __future__ import annotations

from cases.ours import batches, new_iql
from cases.setting import Work
from cases.updates import compiled


def build(precision: str) -> Work:
    """IQL, ready to update."""
    return compiled(new_iql(), batches(), precision)
