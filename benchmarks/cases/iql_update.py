"""This package's IQL: the update that `fit` does, alone, on the common batches."""

from __future__ import annotations

from benchmarks.cases.shared.builders import (
    common_batches,
    compiled_update,
    new_iql,
    plain_update,
)
from benchmarks.cases.shared.setting import Work


def build(precision: str) -> Work:
    """The plain update."""
    return plain_update(new_iql(), common_batches(), precision)


def build_compiled(precision: str) -> Work:
    """The compiled update."""
    return compiled_update(new_iql(), common_batches(), precision)
