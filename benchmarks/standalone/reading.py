"""What reading a dataset costs.

`python benchmarks/standalone/reading.py [--rows N] [--storage plain gzip]`

Writes a file of AntMaze's shape (observations of 29, actions of 8, episodes of 1,001 rows that end
in time-outs), opens it in a fresh process until a batch has been sampled, and prints one JSON
object per file. Memory is the highest resident size minus the one before the file was opened, as
a multiple of two sizes: the file's columns as float32 (flags as bytes), and the transitions
`(s, a, r, s', d)` if every one were written out. Needs Linux, for `/proc/self`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OBS_DIM, ACTION_DIM, EPISODE_ROWS, BATCH = 29, 8, 1001, 256
ROW_BYTES = 4 * (OBS_DIM + ACTION_DIM + 1) + 2
TRANSITION_BYTES = 4 * (2 * OBS_DIM + ACTION_DIM + 1) + 1
BLOCK = 50_000
STORAGE = ["plain", "gzip"]


def write(path: Path, rows: int, storage: str) -> None:
    """Write a file in D4RL's layout, in blocks; compressed as D4RL's are, if at all."""
    import h5py  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(0)
    how = {"compression": "gzip"} if storage == "gzip" else {}
    timeouts = np.arange(rows) % EPISODE_ROWS == EPISODE_ROWS - 1
    with h5py.File(path, "w") as file:
        observations = file.create_dataset("observations", (rows, OBS_DIM), "f4", **how)
        actions = file.create_dataset("actions", (rows, ACTION_DIM), "f4", **how)
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            observations[start : start + size] = rng.normal(size=(size, OBS_DIM))
            actions[start : start + size] = rng.uniform(-1, 1, size=(size, ACTION_DIM))
        rewards = (rng.random(rows) < 0.01).astype(np.float32)
        file.create_dataset("rewards", data=rewards, **how)
        file.create_dataset("terminals", data=rewards > 0, **how)
        file.create_dataset("timeouts", data=timeouts, **how)


def measure(path: Path, warm_up: Path) -> dict[str, float]:
    """Read and sample in this process: seconds, and bytes over what it held before."""
    # What is imported and set up by the first use is no cost of the file's.
    _sample_from(warm_up)
    before = _reset_peak()
    start = time.perf_counter()
    _sample_from(path)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": _memory("VmHWM") - before}


def _sample_from(path: Path) -> None:
    from pex_lightning.datasets.d4rl_reader import read_d4rl  # noqa: PLC0415
    from pex_lightning.replay.mix import dataset_buffer, sample_chunk  # noqa: PLC0415

    buffer = dataset_buffer(read_d4rl(path).transitions)
    sample_chunk(buffer, None, updates=1, batch_size=BATCH, offline_fraction=1.0, seed=0)


def _reset_peak() -> int:
    """Forget the highest resident size so far; returns the present one in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    # Not `getrusage`: its maximum survives `exec`, so that a child starts with its parent's.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status does not say {name}")


def report(folder: Path, rows: int, storage: str) -> dict[str, float | str]:
    """Write one file and have it measured by a fresh process."""
    path, warm_up = folder / f"{storage}.hdf5", folder / "warm-up.hdf5"
    write(path, rows, storage)
    write(warm_up, 2 * EPISODE_ROWS, storage)
    command = [sys.executable, __file__, "--measure", str(path), str(warm_up)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    size = path.stat().st_size
    path.unlink()
    return {
        "storage": storage,
        "rows": rows,
        "file_mib": round(size / 2**20, 1),
        "seconds": round(found["seconds"], 2),
        "peak_mib": round(found["bytes"] / 2**20, 1),
        "peak_over_columns": round(found["bytes"] / (rows * ROW_BYTES), 3),
        "peak_over_transitions": round(found["bytes"] / (rows * TRANSITION_BYTES), 3),
    }


def main() -> None:
    """Measure every kind of storage that was asked for."""
    parser = argparse.ArgumentParser(description="What reading a dataset costs.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--storage", nargs="+", choices=STORAGE, default=STORAGE)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        sys.stdout.write(json.dumps(measure(*settings.measure)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        for storage in settings.storage:
            sys.stdout.write(json.dumps(report(Path(folder), settings.rows, storage)) + "\n")


if __name__ == "__main__":
    main()
