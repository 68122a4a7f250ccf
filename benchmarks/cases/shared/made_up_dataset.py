"""A made-up dataset of AntMaze's shape.

`python -m benchmarks.cases.shared.made_up_dataset FOLDER [--rows N]` writes it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

DATASET = "made-up.hdf5"
ROWS, OBS_DIM, ACTION_DIM, EPISODE_ROWS = 200_000, 29, 8, 701
DATASET_BYTES = 4 * ROWS * (OBS_DIM + ACTION_DIM + 1)
"""Of the columns as float32: observations, actions, rewards."""


def write(folder: Path, rows: int = ROWS) -> None:
    """Write noise with a goal reached in 1 of 100 rows, in episodes that a time limit ends."""
    import numpy as np  # noqa: PLC0415

    from benchmarks.cases.shared.builders import write_dataset  # noqa: PLC0415

    rng = np.random.default_rng(0)
    reached = rng.random(rows) < 0.01
    columns = {
        "observations": rng.standard_normal((rows, OBS_DIM), np.float32),
        "actions": rng.uniform(-1, 1, (rows, ACTION_DIM)).astype(np.float32),
        "rewards": reached.astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % EPISODE_ROWS == EPISODE_ROWS - 1,
    }
    write_dataset(folder / DATASET, columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    settings = parser.parse_args()
    write(settings.folder, settings.rows)
