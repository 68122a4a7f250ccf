"""IQL updates a second, without data or trainer: ``python benchmarks/update_speed.py [SECONDS]``.

Observations of 29, actions of 8, batches of 256, networks of 256×256, float32. Threads and how
they wait are the environment's: ``OMP_NUM_THREADS``, ``OMP_WAIT_POLICY``.
"""

from __future__ import annotations

import sys
import time

import torch

from pex_lightning.algorithms import IQL
from pex_lightning.algorithms.batch import Batch
from pex_lightning.data.description import DataDescription
from pex_lightning.data.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec

OBS_DIM, ACTION_DIM, BATCH = 29, 8, 256


def updates_per_second(seconds: float) -> float:
    """Update one batch for that long."""
    env = EnvSpec("none", {}, OBS_DIM, (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, 1)
    iql = IQL(cosine_decay=False)
    iql.attach(DataDescription(env, "none", "", RewardTransform()))
    optimizer = iql.configure_optimizers()
    batch = Batch(
        observation=torch.randn(BATCH, OBS_DIM),
        action=2 * torch.rand(BATCH, ACTION_DIM) - 1,
        reward=torch.randn(BATCH),
        terminated=torch.rand(BATCH) < 0.1,
        next_observation=torch.randn(BATCH, OBS_DIM),
    )
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        losses = iql.losses(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        iql.critic.update_target(iql.tau)
        count += 1
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
    updates_per_second(0.5)
    speed = updates_per_second(seconds)
    sys.stdout.write(f"{torch.get_num_threads()} threads: {speed:.1f} updates a second\n")
