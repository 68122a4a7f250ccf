"""IQL of other sizes than the common ones, and sampling from buffers of several sizes."""

from __future__ import annotations

import numpy as np
import torch
from made_up import ENVIRONMENT, EPISODE_ROWS

from cases.setting import ACTION_DIM, BATCH, OBS_DIM, Work, flat
from cases.updates import compiled, plain
from pex_lightning.algorithms import IQL
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.arrays import Arrays
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.replay.mix import dataset_buffer, sample_chunk
from pex_lightning.updates.batch import Batch

BATCHES = 8
CHUNK = 20
"""Updates that ``fit`` samples for in one call, offline."""


def build(
    precision: str, batch: int = BATCH, width: int = 256, num_q: int = 2, compile_update: int = 0
) -> Work:
    """An update with these sizes."""
    torch.manual_seed(0)
    env = EnvSpec("none", {}, OBS_DIM, (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, 1)
    iql = IQL(hidden_dims=(width, width), num_q=num_q, cosine_decay=False)
    iql.attach(DataDescription(env, "none", "", RewardTransform()))
    make = compiled if compile_update else plain
    return make(iql, [_batch(batch) for _ in range(BATCHES)], precision)


def _batch(rows: int) -> Batch:
    return Batch(
        observation=torch.randn(rows, OBS_DIM),
        action=2 * torch.rand(rows, ACTION_DIM) - 1,
        reward=torch.randn(rows),
        terminated=torch.rand(rows) < 0.1,
        next_observation=torch.randn(rows, OBS_DIM),
    )


def sampling(precision: str, rows: int) -> Work:
    """Batches drawn from a dataset of so many rows, a chunk in a call."""
    del precision
    rng = np.random.default_rng(0)
    data = Arrays(
        observations=rng.standard_normal((rows, OBS_DIM), np.float32),
        actions=rng.uniform(-1, 1, (rows, ACTION_DIM)).astype(np.float32),
        rewards=rng.random(rows, np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(rows) % EPISODE_ROWS == EPISODE_ROWS - 1,
    )
    buffer = dataset_buffer(data.read(env_spec(ENVIRONMENT, {})).transitions)
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1
        sample_chunk(
            buffer, None, updates=CHUNK, batch_size=BATCH, offline_fraction=1.0, seed=calls
        )

    return Work(step, lambda: flat([torch.zeros(0)]), units=CHUNK)
