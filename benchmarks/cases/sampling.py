"""Sampling of batches from datasets of several sizes."""

from __future__ import annotations

import numpy as np

from benchmarks.cases.shared.builders import dataset_sampler
from benchmarks.cases.shared.made_up_dataset import EPISODE_ROWS
from benchmarks.cases.shared.setting import ACTION_DIM, OBS_DIM, Work

UPDATES = 20
"""`fit` samples for so many updates in one call, offline."""


def build(precision: str, rows: int) -> Work:
    """Batches drawn from a dataset of so many rows, those of `UPDATES` updates in a call."""
    del precision
    rng = np.random.default_rng(0)
    sample = dataset_sampler(
        {
            "observations": rng.standard_normal((rows, OBS_DIM), np.float32),
            "actions": rng.uniform(-1, 1, (rows, ACTION_DIM)).astype(np.float32),
            "rewards": rng.random(rows, np.float32),
            "terminals": np.zeros(rows, bool),
            "timeouts": np.arange(rows) % EPISODE_ROWS == EPISODE_ROWS - 1,
        },
        UPDATES,
    )
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1
        sample(calls)

    return Work(step, lambda: np.zeros(0, np.float32), units=UPDATES)
