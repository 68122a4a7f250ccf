"""NumPy archives are read as HDF5 files are; what they hold is never executed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from mutations import SEED_NAMES, SEEDS, attempt, mutated
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.errors import UserError
from pex_lightning.inspection.summary import summarise_file

ROWS = 50


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(ROWS, 3)).astype("f4"),
        "actions": rng.uniform(-1, 1, (ROWS, 2)),
        "rewards": rng.normal(size=ROWS),
        "terminals": np.zeros(ROWS, bool),
        "truncations": np.arange(ROWS) % 10 == 9,
        "ids": np.arange(ROWS),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_it_is_read_as_hdf5_is(save, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **arrays())
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for key, values in arrays().items():
            file[key] = values
    first, second = read_d4rl(tmp_path / "a.npz"), read_d4rl(tmp_path / "a.hdf5")
    assert first.info.fingerprint == second.info.fingerprint
    assert (first.transitions.tensordict == second.transitions.tensordict).all()
    summary = summarise_file(tmp_path / "a.npz", lambda: first)
    assert (summary.told_by, summary.unread) == ("truncations", ("ids",))


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays() | {"rewards": np.array([{}] * ROWS, object)})
    with pytest.raises(UserError, match=r"'rewards' cannot be read .*holds Python objects"):
        read_d4rl(tmp_path / "a.npz")


def test_claims_beyond_the_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "a.npz") as source:
        entries = {name: source.read(name) for name in source.namelist()}
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (400000000, 3), }"
    entries["observations.npy"] = b"\x93NUMPY\x01\x00v\x00" + head.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as sink:
        for name, content in entries.items():
            sink.writestr(name, content)
    _, message = attempt(read_d4rl, tmp_path / "b.npz")
    assert message is not None
    assert "'observations' cannot be read" in message


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
def test_damaged_archives_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays())
    path = tmp_path / "b.npz"
    for damaged in mutated((tmp_path / "a.npz").read_bytes(), 200, seed):
        path.write_bytes(damaged)
        attempt(read_d4rl, path)
