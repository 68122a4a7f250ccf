"""Mixing offline and online transitions into the chunks that an algorithm learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorStorage
from torchrl.data.replay_buffers.samplers import RandomSampler
from torchrl.data.replay_buffers.storages import Storage
from torchrl.data.replay_buffers.writers import ImmutableDatasetWriter

from pex_lightning.datasets.transitions import Transitions

LEARNING_KEYS: tuple[Any, ...] = (
    "observation",
    "action",
    ("next", "observation"),
    ("next", "reward"),
    ("next", "terminated"),
)


class KeptRows(RandomSampler):  # type: ignore[misc]
    """Draws uniformly, with replacement, among the rows that are transitions.

    Args:
        kept: [N] int32.
    """

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self._kept = kept

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Places of `batch_size` rows in the storage, and no further information."""
        drawn = torch.randint(len(self._kept), (batch_size,), generator=self._rng)
        return self._kept[drawn].long(), {}


def dataset_buffer(transitions: Transitions) -> ReplayBuffer:
    """A TorchRL buffer over a dataset, without a copy and without a way to add rows."""
    kept = transitions.kept
    return ReplayBuffer(
        storage=TensorStorage(transitions.rows.select(*LEARNING_KEYS)),
        sampler=RandomSampler() if kept is None else KeptRows(kept),
        writer=ImmutableDatasetWriter(),
        generator=torch.Generator(),
    )


def online_buffer(capacity: int) -> ReplayBuffer:
    """An empty TorchRL ring buffer of `capacity` rows."""
    return ReplayBuffer(
        storage=LazyTensorStorage(capacity), sampler=RandomSampler(), generator=torch.Generator()
    )


def sample_chunk(
    offline: ReplayBuffer,
    online: ReplayBuffer | None,
    *,
    updates: int,
    batch_size: int,
    offline_fraction: float,
    seed: int,
) -> TensorDictBase:
    """A chunk `[updates, batch_size]`: every batch has the same share of offline rows.

    Args:
        offline: The dataset.
        online: What was collected, or None where everything is offline.
        updates: Number of batches.
        batch_size: Rows of a batch.
        offline_fraction: Share of offline rows, rounded to whole rows.
        seed: Determines which rows are drawn.
    """
    from_offline = batch_size if online is None else round(batch_size * offline_fraction)
    from_online = batch_size - from_offline
    parts: list[list[Tensor]] = []
    if from_offline:
        parts.append(_draw(offline, (updates, from_offline), seed))
    if from_online:
        assert online is not None
        parts.append(_draw(online, (updates, from_online), seed + 1))
    if len(parts) == 1:
        return _transitions(parts[0], [updates, batch_size])
    mixed = [torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)]
    return _transitions(mixed, [updates, batch_size])


def _draw(buffer: ReplayBuffer, shape: tuple[int, ...], seed: int) -> list[Tensor]:
    """The columns `LEARNING_KEYS` of rows that the buffer's sampler draws, `[*shape, ...]`.

    `ReplayBuffer.sample` draws the same rows; it takes three to four times as long, because it
    reads the columns that nobody learns from too, and indexes by a slower way.
    """
    buffer._rng.manual_seed(seed)
    places, _ = buffer.sampler.sample(buffer.storage, math.prod(shape))
    stored: TensorDictBase = buffer.storage[:]
    columns = [stored.get(key) for key in LEARNING_KEYS]
    return [c.index_select(0, places).view(*shape, *c.shape[1:]) for c in columns]


def _transitions(columns: Sequence[Tensor], batch_size: Sequence[int]) -> TensorDict:
    """The TensorDict of columns in the order of `LEARNING_KEYS`."""
    observation, action, next_observation, reward, terminated = columns
    following = {"observation": next_observation, "reward": reward, "terminated": terminated}
    return TensorDict(
        {"observation": observation, "action": action, "next": following}, batch_size=batch_size
    )
