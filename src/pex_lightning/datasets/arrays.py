"""User data: arrays in memory as a dataset, or written to a file in D4RL's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from tensordict import TensorDictBase

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.datasets.rows import OPTIONAL, REQUIRED, check_columns, read_rows
from pex_lightning.errors import UserError
from pex_lightning.files.hdf5_files import written_hdf5

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pex_lightning.envs.make import EnvSpec

TED_KEYS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation",),
    "actions": ("action",),
    "rewards": ("next", "reward"),
    "terminals": ("next", "terminated"),
    "timeouts": ("next", "truncated"),
    "next_observations": ("next", "observation"),
}
"""TorchRL's key for each of D4RL's array names."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Logged arrays as a data source, one row per step, in recorded order.

    Use them as `OnlineData.of(Arrays(...), env="MyEnv-v0")`. Arrays are not copied. With
    `next_observations`, no row is dropped. With neither these nor `timeouts`, episodes end at a
    terminal or at the environment's time limit.

    Attributes:
        observations: [N, obs_dim].
        actions: [N, act_dim], as executed.
        rewards: [N], raw.
        terminals: [N], 1 where the environment ended the episode (not a time limit).
        timeouts: [N], 1 where recording of the episode stopped without a terminal.
        next_observations: [N, obs_dim], observation after the action.
        name: Name of the data in logs, scores and checkpoints.

    Raises:
        UserError: An array is not numeric or has a wrong shape, or lengths differ.
    """

    observations: ArrayLike
    actions: ArrayLike
    rewards: ArrayLike
    terminals: ArrayLike
    timeouts: ArrayLike | None = None
    next_observations: ArrayLike | None = None
    name: str = "arrays"

    def __post_init__(self) -> None:
        self.columns()

    @classmethod
    def from_tensordict(cls, rows: TensorDictBase, name: str = "arrays") -> Arrays:
        """Take the arrays from a TensorDict of batch size [N] in TorchRL's layout.

        It needs the keys of `TED_KEYS`, except the optional `("next", "truncated")`.

        Raises:
            UserError: A key is missing, or a column has a wrong shape.
        """
        found = {key: rows.get(path, None) for key, path in TED_KEYS.items()}
        missing = [TED_KEYS[key] for key in found if found[key] is None and key != "timeouts"]
        if missing:
            there = sorted(map(str, rows.keys(include_nested=True)))
            raise UserError(
                f"{name}: the TensorDict lacks {missing}; it has {there}. TorchRL's layout is "
                "expected."
            )
        arrays = {key: _numpy(value, key) for key, value in found.items() if value is not None}
        return cls(**arrays, name=name)

    def columns(self) -> dict[str, Column]:
        """The arrays as columns, by D4RL's names.

        Raises:
            UserError: As for the constructor.
        """
        columns = {}
        for key in (*REQUIRED, *OPTIONAL):
            value = getattr(self, key)
            if value is not None:
                values = _numpy(value, f"{self.name}: '{key}'")
                columns[key] = Column(source=self.name, key=key, values=values)
        check_columns(columns, self.name)
        return columns

    def prepare(self) -> None:
        """Do nothing: there is nothing to fetch."""

    def environment(self) -> None:
        """Return None: the environment is not known."""

    def path(self) -> None:
        """Return None: there is no file."""

    def notes(self) -> tuple[str, ...]:
        """Return no warnings."""
        return ()

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read the transitions by the rules of `read_d4rl`.

        Raises:
            UserError: As for `read_d4rl`.
        """
        return read_rows(self.columns(), name=self.name, path="", origin="arrays", spec=spec)


def write_d4rl(
    path: str | PathLike[str],
    *,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    terminals: ArrayLike,
    timeouts: ArrayLike | None = None,
    next_observations: ArrayLike | None = None,
    infos: Mapping[str, ArrayLike] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write rows to an HDF5 file in D4RL's layout, which `--data.path` reads.

    The file only appears once it is complete.

    Args:
        path: The file.
        observations: [N, obs_dim]. For this and the other arrays see `Arrays`.
        actions: [N, act_dim].
        rewards: [N].
        terminals: [N].
        timeouts: [N].
        next_observations: [N, obs_dim].
        infos: Additional columns [N, ...], written under `infos/`.
        attributes: Attributes of the file: text, numbers, or arrays of numbers.
        overwrite: Whether to replace a file that is there.

    Raises:
        UserError: The file is there and `overwrite` is not set, shapes or lengths of the arrays
            disagree, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already. Give another name, or overwrite=True.")
    rows = Arrays(
        observations, actions, rewards, terminals, timeouts, next_observations, name=str(path)
    )
    extra = {f"infos/{key}": _numpy(value, f"infos/{key}") for key, value in (infos or {}).items()}
    columns = rows.columns()
    count = len(columns["observations"])
    for key, values in extra.items():
        if len(values) != count:
            raise UserError(f"{path}: '{key}' has {len(values)} rows, the others have {count}.")
    with written_hdf5(path) as file:
        file.attrs.update(attributes or {})
        for key, column in columns.items():
            flag = key in ("terminals", "timeouts")
            # These reads also check the values.
            values = column.flags() if flag else column.matrix().reshape(column.values.shape)
            _write(file, key, values)
        for key, values in extra.items():
            _write(file, key, values)


def _write(file: h5py.File, key: str, values: np.ndarray) -> None:
    # Without time stamps, equal arrays give equal bytes.
    file.create_dataset(key, data=values, compression="gzip", track_times=False)


def _numpy(value: Any, name: str) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        # NumPy has no bfloat16.
        values: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return values
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(
            f"{name}: found rows of different sizes, expected an array ({error})."
        ) from error
