"""A batch of transitions as plain tensors, cut from the chunk that the data module samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor


class Batch(NamedTuple):
    """``B`` transitions: ``[B, obs_dim]``, ``[B, action_dim]``, and ``[B]`` for the rest.

    ``terminated`` is bool and never set by a time limit.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_observation: Tensor


def batches(chunk: TensorDictBase) -> Iterator[Batch]:
    """Cut a chunk ``[K, B]`` in TorchRL's TED layout into its ``K`` batches."""
    columns = (
        chunk.get("observation"),
        chunk.get("action"),
        chunk.get(("next", "reward")).squeeze(-1),
        chunk.get(("next", "terminated")).squeeze(-1),
        chunk.get(("next", "observation")),
    )
    yield from map(Batch._make, zip(*columns, strict=True))
