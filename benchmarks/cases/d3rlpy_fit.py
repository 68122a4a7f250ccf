"""d3rlpy's own `fit` on the made-up dataset, without logging and progress bar, in float32."""

from __future__ import annotations

from pathlib import Path

import d3rlpy
import h5py
from d3rlpy.logging import NoopAdapterFactory

from benchmarks.cases.d3rlpy_update import new_iql
from benchmarks.cases.shared.fit import ENDLESS
from benchmarks.cases.shared.made_up_dataset import DATASET
from benchmarks.cases.shared.setting import Gate


def fit(precision: str, gate: Gate, folder: Path, extra: list[str]) -> None:
    """Run until there are no more turns."""
    assert precision == "float32"
    assert not extra

    def after_update(algorithm: object, epoch: int, updates: int) -> None:
        del algorithm, epoch
        if not gate.passed(updates):
            raise SystemExit

    new_iql().fit(
        _dataset(folder / DATASET),
        n_steps=ENDLESS,
        n_steps_per_epoch=ENDLESS,
        show_progress=False,
        logger_adapter=NoopAdapterFactory(),
        callback=after_update,
    )


def _dataset(path: Path) -> d3rlpy.dataset.MDPDataset:
    with h5py.File(path) as file:
        columns = {key: file[key][()] for key in file if key != "next_observations"}
    columns["rewards"] = columns["rewards"].reshape(-1, 1)
    return d3rlpy.dataset.MDPDataset(**columns, action_space=d3rlpy.ActionSpace.CONTINUOUS)
