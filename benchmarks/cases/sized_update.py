"""This package's IQL update with other sizes than the common ones."""

from __future__ import annotations

from benchmarks.cases.shared.builders import (
    compiled_update,
    new_iql,
    plain_update,
    random_batches,
)
from benchmarks.cases.shared.setting import BATCH, Work

BATCHES = 8


def build(
    precision: str, batch: int = BATCH, width: int = 256, num_q: int = 2, compile_update: int = 0
) -> Work:
    """An update with these sizes.

    Args:
        precision: `float32` or `bf16`.
        batch: Rows of a batch.
        width: Of both hidden layers of every network.
        num_q: Number of Q networks.
        compile_update: 1 for the compiled update, 0 for the plain one.
    """
    iql = new_iql(hidden_dims=(width, width), num_q=num_q)
    make = compiled_update if compile_update else plain_update
    return make(iql, random_batches(BATCHES, batch), precision)
