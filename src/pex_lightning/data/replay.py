"""Mixing offline and online transitions into the chunks that an algorithm learns from."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorStorage
from torchrl.data.replay_buffers.samplers import RandomSampler
from torchrl.data.replay_buffers.storages import Storage
from torchrl.data.replay_buffers.writers import ImmutableDatasetWriter

from pex_lightning.data.transitions import Transitions

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

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self._kept = kept

    def sample(self, storage: Storage, batch_size: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Places of `batch_size` rows in the storage, and no further information."""
        del storage
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
    """An empty TorchRL ring buffer of ``capacity`` rows."""
    return ReplayBuffer(
        storage=LazyTensorStorage(capacity), sampler=RandomSampler(), generator=torch.Generator()
    )


def sample_rows(buffer: ReplayBuffer, rows: int, seed: int) -> TensorDict:
    """``rows`` transitions drawn uniformly with replacement: the same ones for the same seed."""
    buffer._rng.manual_seed(seed)
    drawn: TensorDict = buffer.sample(rows).select(*LEARNING_KEYS)
    return drawn


def sample_chunk(
    offline: ReplayBuffer,
    online: ReplayBuffer | None,
    *,
    updates: int,
    batch_size: int,
    offline_fraction: float,
    seed: int,
) -> TensorDictBase:
    """A chunk ``[updates, batch_size]``: every batch has the same share of offline rows.

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
    parts: list[TensorDictBase] = []
    if from_offline:
        rows = sample_rows(offline, updates * from_offline, seed)
        parts.append(rows.view(updates, from_offline))
    if from_online:
        assert online is not None
        rows = sample_rows(online, updates * from_online, seed + 1)
        parts.append(rows.view(updates, from_online))
    if len(parts) == 1:
        return parts[0]
    mixed: TensorDictBase = torch.cat(parts, dim=1)
    return mixed
