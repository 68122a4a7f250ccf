"""Sampling of training batches from offline and online transitions."""

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
    """Sampler that draws transitions uniformly with replacement and skips other rows.

    Args:
        kept: [N] int32, rows that are transitions.
    """

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Draw `batch_size` row indices of the storage; the second result is empty."""
        drawn = torch.randint(len(self.kept), (batch_size,), generator=self._rng)
        return self.kept[drawn].long(), {}


def dataset_buffer(transitions: Transitions) -> ReplayBuffer:
    """Create a read-only TorchRL buffer over a dataset, without copying."""
    kept = transitions.kept
    return ReplayBuffer(
        storage=TensorStorage(transitions.rows.select(*LEARNING_KEYS)),
        sampler=RandomSampler() if kept is None else KeptRows(kept),
        writer=ImmutableDatasetWriter(),
        generator=torch.Generator(),
    )


def online_buffer(capacity: int) -> ReplayBuffer:
    """Create an empty TorchRL ring buffer of `capacity` rows."""
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
    """Draw a chunk `[updates, batch_size]` of batches with the same share of offline rows.

    Args:
        offline: The dataset.
        online: Collected transitions, or None to draw only offline rows.
        updates: Number of batches.
        batch_size: Rows per batch.
        offline_fraction: Fraction of offline rows, rounded to whole rows.
        seed: Random seed.
    """
    from_offline = batch_size if online is None else round(batch_size * offline_fraction)
    from_online = batch_size - from_offline
    parts: list[list[Tensor]] = []
    if from_offline:
        parts.append(draw_rows(offline, (updates, from_offline), seed))
    if from_online:
        assert online is not None
        parts.append(draw_rows(online, (updates, from_online), seed + 1))
    if len(parts) == 1:
        return as_chunk(parts[0], [updates, batch_size])
    mixed = [torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)]
    return as_chunk(mixed, [updates, batch_size])


def draw_rows(
    buffer: ReplayBuffer, shape: tuple[int, ...], seed: int, keys: Sequence[Any] = LEARNING_KEYS
) -> list[Tensor]:
    """Draw rows and return the columns `keys`, each of shape `[*shape, ...]`.

    `ReplayBuffer.sample` draws the same rows but takes three to four times as long: it reads all
    columns, and its indexing is slower.
    """
    buffer._rng.manual_seed(seed)
    places, _ = buffer.sampler.sample(buffer.storage, math.prod(shape))
    stored: TensorDictBase = buffer.storage[:]
    columns = [stored.get(key) for key in keys]
    return [c.index_select(0, places).view(*shape, *c.shape[1:]) for c in columns]


def as_chunk(columns: Sequence[Tensor], batch_size: Sequence[int]) -> TensorDict:
    """Build a TensorDict from columns in the order of `LEARNING_KEYS`."""
    observation, action, next_observation, reward, terminated = columns
    following = {"observation": next_observation, "reward": reward, "terminated": terminated}
    return TensorDict(
        {"observation": observation, "action": action, "next": following}, batch_size=batch_size
    )
