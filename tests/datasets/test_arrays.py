"""Data of the user's own: arrays, TensorDicts, and files written from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData
from pex_lightning.datasets.arrays import Arrays, write_d4rl
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.errors import UserError

N = 12


def logs(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows: dict[str, Any] = {
        "observations": rng.normal(size=(N, 3)),
        "actions": rng.uniform(-0.5, 0.5, (N, 2)),
        "rewards": rng.normal(size=N),
        "terminals": np.arange(N) == 4,
        "timeouts": np.arange(N) == 8,
    }
    rows.update(changes)
    return {key: value for key, value in rows.items() if value is not None}


def test_arrays_follow_the_rules_of_files(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "logs.hdf5", **logs())
    from_file = read_d4rl(tmp_path / "logs.hdf5")
    from_memory = Arrays(**logs(), name="logs").read()
    assert (from_memory.transitions.tensordict == from_file.transitions.tensordict).all()
    assert from_memory.info.fingerprint == from_file.info.fingerprint
    assert (from_memory.info.name, from_memory.info.origin) == ("logs", "arrays")
    # The time-out's row and the last one have no next observation.
    assert from_memory.info.transitions == N - 2


def test_next_observations_keep_every_row() -> None:
    following = np.random.default_rng(1).normal(size=(N, 3))
    dataset = Arrays(**logs(next_observations=following)).read()
    np.testing.assert_allclose(dataset.transitions.next_observation, following, rtol=1e-6)


def test_nothing_of_the_users_is_changed(toy: Any) -> None:
    given = logs(rewards=np.ones(N, np.float32), actions=np.full((N, 2), 0.5, np.float32))
    before = {key: value.copy() for key, value in given.items()}
    toy_data = OfflineData.of(Arrays(**given), env=toy.env, reward_transform="subtract_one")
    toy_data.setup()
    assert all(np.array_equal(given[key], before[key]) for key in given)


def test_a_tensordict_in_torchrls_layout_becomes_a_dataset() -> None:
    rows = TensorDict(
        {
            "observation": torch.arange(8.0).view(4, 2),
            "action": torch.zeros(4, 1),
            "next": {
                "observation": torch.arange(8.0).view(4, 2) + 2,
                "reward": torch.ones(4, 1),
                "terminated": torch.tensor([[False], [True], [False], [False]]),
                "truncated": torch.tensor([[False], [False], [False], [True]]),
            },
        },
        batch_size=[4],
    )
    dataset = Arrays.from_tensordict(rows, name="td").read()
    kept = dataset.transitions.tensordict
    assert torch.equal(kept["next", "observation"], rows["next", "observation"])
    assert kept["next", "terminated"][:, 0].tolist() == [False, True, False, False]
    assert kept["next", "truncated"][:, 0].tolist() == [False, False, False, True]


def test_a_tensordict_without_a_key_is_refused() -> None:
    rows = TensorDict({"observation": torch.zeros(4, 2)}, batch_size=[4])
    with pytest.raises(UserError, match=r"lacks .*action.*reward"):
        Arrays.from_tensordict(rows)


def test_lists_and_integers_are_fine() -> None:
    dataset = Arrays(
        observations=[[0, 1], [2, 3], [4, 5]],
        actions=[[0], [1], [0]],
        rewards=[0, 1, 2],
        terminals=[0, 0, 1],
        timeouts=[0, 0, 0],
    ).read()
    # The last row is terminal, so that it needs no next observation.
    assert dataset.transitions.next_observation[:2].tolist() == [[2, 3], [4, 5]]
    assert dataset.transitions.reward[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.zeros(N - 1)}, "differ in their number of rows"),
        ({"observations": np.zeros(N)}, r"'observations' has shape \[12\]"),
        ({"actions": np.full((N, 2), "a")}, "'actions' has type <U1, expected numbers"),
        ({"actions": np.array([[{}]] * N)}, "'actions' has type object"),
        ({"actions": [[0.0]] * (N - 1) + [[0.0, 1.0]]}, "'actions': found rows of different sizes"),
    ],
)
def test_wrong_arrays_are_refused_when_given(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Arrays(**logs(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.full(N, np.nan)}, "'rewards' has NaN or infinity in 12 of 12 rows"),
        ({"rewards": np.full(N, 1e300)}, "'rewards' has NaN or infinity"),
        ({"actions": np.full((N, 2), 3.0)}, "lie outside the action space"),
        ({"terminals": np.full(N, 2)}, "neither false"),
        ({"timeouts": None}, "no 'timeouts'"),
        (
            {key: np.zeros((0, 2)) for key in ("observations", "actions")}
            | {key: np.zeros(0) for key in ("rewards", "terminals", "timeouts")},
            "has no rows",
        ),
    ],
)
def test_bad_values_are_refused_when_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Arrays(**logs(**changes)).read()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "logs.hdf5"
    path.write_text("precious")
    with pytest.raises(UserError, match="NaN"):
        write_d4rl(path, **logs(rewards=np.full(N, np.nan)), overwrite=True)
    with pytest.raises(UserError, match="neither false"):
        write_d4rl(path, **logs(terminals=np.full(N, 7)), overwrite=True)
    with pytest.raises(UserError, match="is there already"):
        write_d4rl(path, **logs())
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
    write_d4rl(path, **logs(), overwrite=True)
    assert read_d4rl(path).info.rows == N


def test_infos_and_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "logs.hdf5"
    write_d4rl(path, **logs(), infos={"who": np.arange(N)}, attributes={"robot": "arm 3"})
    with h5py.File(path) as file:
        assert file["infos/who"][:].tolist() == list(range(N))
        assert file.attrs["robot"] == "arm 3"
    with pytest.raises(UserError, match="'infos/who' has 2 rows"):
        write_d4rl(path, **logs(), infos={"who": np.arange(2)}, overwrite=True)


def test_a_run_on_arrays_from_python(toy: Any) -> None:
    rows = 40
    rng = np.random.default_rng(2)
    arrays = Arrays(
        observations=rng.normal(size=(rows, 3)),
        actions=rng.uniform(-0.4, 0.4, (rows, 2)),
        rewards=rng.normal(size=rows),
        terminals=np.zeros(rows),
        name="my-logs",
    )
    data = OnlineData.of(arrays, env=toy.env, start_steps=3, batch_size=8)
    trainer = toy.fit(toy.algorithm("IQL"), 5, data=data.offline_stage())
    assert trainer.global_step == 5
    assert data.describe().dataset == "my-logs"
    assert data.describe().d4rl_score() is None


def test_bfloat16_is_read() -> None:
    dataset = Arrays(**logs(observations=torch.ones(N, 3, dtype=torch.bfloat16))).read()
    assert (dataset.transitions.observation == 1.0).all()


def test_a_file_that_cannot_fit_into_memory_is_refused(tmp_path: Path) -> None:
    rows = 10**12
    with h5py.File(tmp_path / "huge.hdf5", "w") as file:
        for key, shape in (("observations", (rows, 3)), ("actions", (rows, 2))):
            file.create_dataset(key, shape, "f4", chunks=(1000, shape[1]))
        for key in ("rewards", "terminals", "timeouts"):
            file.create_dataset(key, (rows,), "f4", chunks=(1000,))
    with pytest.raises(UserError, match="which cannot be so much even if it is compressed"):
        read_d4rl(tmp_path / "huge.hdf5")
