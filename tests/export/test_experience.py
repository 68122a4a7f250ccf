"""What a run experienced, out of its checkpoint and into files that read back the same."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.minari.reader import minari_environment, read_minari
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import env_spec, make_env
from pex_lightning.errors import UserError
from pex_lightning.export.experience import Experience, export_d4rl, read_experience
from pex_lightning.export.minari import Author, export_minari
from pex_lightning.handover import CheckpointHeader

ID = "my/tiny/pex-v0"
POINTS = "PointMaze_UMaze-v3"


@pytest.fixture(autouse=True)
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield tmp_path / "minari"


def train(toy: Any, steps: int, resume: bool = False, **data: Any) -> Path:
    """Collects 12 rows, then one for each update; an episode has 5."""
    path = toy.folder / "last.ckpt"
    toy.fit(
        toy.algorithm("PEX"),
        steps,
        data=toy.online_data(start_steps=12, **data),
        callbacks=[RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))],
        resume=path if resume else None,
    )
    return path


def rows_where(flags: np.ndarray) -> list[int]:
    return np.flatnonzero(flags).tolist()


def test_rows_are_the_collected_ones_with_raw_rewards(toy: Any):
    rows = read_experience(train(toy, 10))
    # The environment pays the number of the step, and observes a tenth of it.
    steps = np.array([*range(1, 6)] * 4 + [1, 2], np.float32)
    assert np.array_equal(rows.rewards, steps)
    assert rows.next_observations[:, 0] == pytest.approx(steps / 10)
    assert rows.observations[:, 0] == pytest.approx((steps - 1) / 10)
    assert rows.next_observations[:, 2] == pytest.approx(rows.actions[:, 0])
    assert set(rows.policy_index) <= {0, 1}
    assert rows.choice_probs.sum(axis=1) == pytest.approx(np.ones(22), abs=1e-5)
    assert rows_where(rows.terminals) == []
    assert rows_where(rows.timeouts) == [4, 9, 14, 19, 21]
    assert (rows.cut, rows.gone) == (1, 0)


def test_scaled_rewards_are_raw_again_up_to_rounding(toy: Any):
    data = {"reward_transform": "scale_by_return_range"}
    trainer = toy.fit(toy.algorithm("IQL"), 5, data=toy.offline_data(**data))
    toy.offline_path = toy.folder / "scaled.ckpt"
    trainer.save_checkpoint(toy.offline_path)
    rows = read_experience(train(toy, 10, **data))
    assert rows.rewards[:5] == pytest.approx([1, 2, 3, 4, 5], rel=1e-6)


def test_an_episode_that_a_resume_interrupted_is_cut(toy: Any):
    train(toy, 10)
    rows = read_experience(train(toy, 15, resume=True))
    assert len(rows) == 27
    assert rows_where(rows.timeouts) == [4, 9, 14, 19, 21, 26]
    assert rows.cut == 1


def test_a_terminal_is_no_timeout(toy: Any):
    rows = read_experience(train(toy, 10, env_kwargs={"terminates_after": 4}))
    assert rows_where(rows.terminals) == [3, 7, 11, 15, 19]
    assert rows_where(rows.timeouts) == [21]


def test_rows_that_left_the_buffer_are_counted(toy: Any):
    rows = read_experience(train(toy, 20, buffer_size=8))
    assert rows.gone + len(rows) == 32
    assert rows.gone > 0
    assert rows.rewards[-1] == 2


def test_processes_follow_on_each_other_without_a_link(toy: Any):
    path = train(toy, 10)
    raw = torch.load(path, weights_only=True)
    raw["data_state"]["replay"] *= 2
    torch.save(raw, toy.folder / "two.ckpt")
    shutil.copytree(toy.folder / "replay" / "rank-0", toy.folder / "replay" / "rank-1")
    rows = read_experience(toy.folder / "two.ckpt")
    assert rows_where(rows.timeouts) == [4, 9, 14, 19, 21, 26, 31, 36, 41, 43]
    assert rows.cut == 2


def same(data: Any, rows: Experience, keep: Any = slice(None), masked: bool = False) -> None:
    """A reader's transitions are these rows; `masked`: but for what follows on a terminal."""
    found = data.transitions
    low, high = torch.tensor([-1.0, -0.5]), torch.tensor([1.0, 2.0])
    inset = 1e-5 * (high - low) / 2
    clipped = torch.from_numpy(rows.actions[keep]).clamp(low + inset, high - inset)
    assert np.array_equal(found.observation.numpy(), rows.observations[keep])
    lives = ~rows.terminals[keep] if masked else slice(None)
    following = found.next_observation.numpy()
    assert np.array_equal(following[lives], rows.next_observations[keep][lives])
    assert found.action.numpy() == pytest.approx(clipped.numpy(), abs=1e-6)
    assert np.array_equal(found.reward.numpy()[:, 0], rows.rewards[keep])
    terminated = found.tensordict["next", "terminated"].numpy()[:, 0]
    assert np.array_equal(terminated, rows.terminals[keep])


@pytest.mark.parametrize("terminates_after", [0, 4])
def test_a_d4rl_file_reads_back_the_same(toy: Any, terminates_after: int):
    kwargs = {"terminates_after": terminates_after}
    train(toy, 10, env_kwargs=kwargs)
    rows = read_experience(train(toy, 15, resume=True, env_kwargs=kwargs))
    path = export_d4rl(rows, toy.folder / "out.hdf5", overwrite=False)
    spec = rows.header.data.env
    data = read_d4rl(path, spec=spec)
    same(data, rows)
    truncated = data.transitions.tensordict["next", "truncated"].numpy()[:, 0]
    assert np.array_equal(truncated, rows.timeouts)
    assert data.info.episodes == int(rows.ends.sum())
    # And by D4RL's own rule: a row with a time-out, and the last, have no successor in the file.
    with h5py.File(path, "a") as file:
        del file["next_observations"]
    keep = ~rows.timeouts
    keep[-1] = False
    same(read_d4rl(path, spec=spec), rows, keep, masked=True)


def test_a_d4rl_file_says_where_it_comes_from(toy: Any):
    rows = read_experience(train(toy, 10))
    path = export_d4rl(rows, toy.folder / "out.hdf5", overwrite=False)
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
        assert np.array_equal(file["infos/policy_index"][:], rows.policy_index)
        assert np.array_equal(file["infos/choice_probs"][:], rows.choice_probs)
    assert attributes["env_id"] == toy.env
    assert json.loads(attributes["env_kwargs"]) == {}
    assert attributes["dataset"] == rows.header.data.dataset
    assert attributes["dataset_fingerprint"] == rows.header.data.fingerprint
    assert (attributes["algorithm"], attributes["gradient_steps"]) == ("PEX", 10)
    assert attributes["package_version"]


def test_nothing_is_replaced_unless_told_to(toy: Any, minari_root: Path):
    pytest.importorskip("minari", reason="the package minari is not installed")
    rows = points()
    path = toy.folder / "out.hdf5"
    for write in (
        lambda overwrite: export_d4rl(rows, path, overwrite=overwrite),
        lambda overwrite: export_minari(rows, ID, overwrite=overwrite),
    ):
        written = write(False)
        with pytest.raises(UserError, match="--overwrite"):
            write(False)
        assert write(True) == written
    names = sorted(entry.name for entry in minari_root.iterdir())
    assert names == ["my"]


def points(interrupted_at: int = 7, steps: int = 12) -> Experience:
    """Random steps in gymnasium-robotics' dict environment."""
    spec = env_spec(POINTS, {"max_episode_steps": 5})
    env = make_env(POINTS, {"max_episode_steps": 5})
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {key: [] for key in ("o", "a", "r", "d", "t", "n")}
    observation, _ = env.reset(seed=0)
    for step in range(steps):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        cut = truncated or step in (interrupted_at, steps - 1)
        row = (observation, action, reward, terminated, cut, following)
        for key, value in zip(columns, row, strict=True):
            columns[key].append(value)
        observation = env.reset()[0] if cut else following
    env.close()
    o, a, r, d, t, n = (np.array(values) for values in columns.values())
    data = DataDescription(spec, "some data", "0" * 16, RewardTransform())
    return Experience(
        checkpoint=Path("some.ckpt"),
        header=CheckpointHeader("PEX", "online", {}, ("offline", "online"), data, 3, steps),
        observations=o,
        actions=a,
        rewards=r.astype(np.float32),
        terminals=d,
        timeouts=t,
        next_observations=n,
        policy_index=rng.integers(0, 2, steps),
        choice_probs=rng.random((steps, 2)).astype(np.float32),
        cut=2,
        gone=0,
    )


def test_a_minari_dataset_reads_back_the_same_and_like_the_d4rl_file(toy: Any):
    pytest.importorskip("minari", reason="the package minari is not installed")
    rows = points()
    export_minari(rows, ID, overwrite=False)
    env_id, kwargs = minari_environment(ID)
    assert (env_id, kwargs) == (POINTS, {"max_episode_steps": 5})
    spec = env_spec(env_id, kwargs)
    data = read_minari(ID, spec=spec)
    path = export_d4rl(rows, toy.folder / "out.hdf5", overwrite=False)
    other = read_d4rl(path, spec=spec)
    assert (data.transitions.tensordict == other.transitions.tensordict).all()
    assert data.info.fingerprint == other.info.fingerprint
    assert data.episode_lengths.tolist() == other.episode_lengths.tolist() == [5, 3, 4]


def test_minari_itself_loads_it_with_named_parts_and_who_acted(toy: Any):
    minari = pytest.importorskip("minari", reason="the package minari is not installed")
    rows = points()
    export_minari(rows, ID, author=Author("A. Uthor", "a@example.org"), overwrite=False)
    dataset = minari.load_dataset(ID)
    assert (dataset.total_steps, dataset.total_episodes) == (12, 3)
    first = dataset[0]
    assert set(first.observations) == set(rows.header.data.env.obs_keys)
    flat = np.concatenate(
        [first.observations[key] for key in rows.header.data.env.obs_keys], axis=1
    )
    assert np.array_equal(flat[:-1], rows.observations[:5])
    assert np.array_equal(flat[-1], rows.next_observations[4])
    assert first.infos["policy_index"].tolist() == [-1, *rows.policy_index[:5]]
    assert np.array_equal(first.infos["choice_probs"][1:], rows.choice_probs[:5])
    assert dataset.env_spec.id == POINTS
    assert dataset.env_spec.max_episode_steps == 5
    assert dataset.env_spec.additional_wrappers == ()
    assert dataset.storage.metadata["author"] == {"A. Uthor"}
    assert dataset.storage.metadata["pex_lightning"]["dataset"] == "some data"
    assert dataset.recover_environment().observation_space["observation"].shape == (4,)


def test_a_run_reads_back_the_same_from_minari(toy: Any):
    pytest.importorskip("minari", reason="the package minari is not installed")
    rows = read_experience(train(toy, 10, env_kwargs={"terminates_after": 4}))
    export_minari(rows, ID, overwrite=False)
    data = read_minari(ID, spec=rows.header.data.env)
    same(data, rows)
    assert data.info.terminals == 5


def test_a_failed_export_leaves_nothing_and_the_old_dataset(
    minari_root: Path, monkeypatch: pytest.MonkeyPatch
):
    minari = pytest.importorskip("minari", reason="the package minari is not installed")
    rows = points()
    export_minari(rows, ID, overwrite=False)
    before = read_minari(ID).info

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(minari.dataset._storages.hdf5_storage, "_add_episode_to_group", full)
    for dataset_id in (ID, "my/other-v0"):
        with pytest.raises(UserError, match="No space left"):
            export_minari(rows, dataset_id, overwrite=True)
    assert read_minari(ID).info == before
    assert not (minari_root / "my" / "other-v0").exists()
    assert [entry.name for entry in minari_root.iterdir()] == ["my"]


@pytest.mark.parametrize("dataset_id", ["../x-v0", "noversion", "x/y", "a/b-v0"])
def test_bad_ids_are_refused(dataset_id: str):
    pytest.importorskip("minari", reason="the package minari is not installed")
    with pytest.raises(UserError, match=dataset_id):
        export_minari(points(), dataset_id, overwrite=True)


def test_a_folder_that_is_no_dataset_is_never_replaced(minari_root: Path):
    pytest.importorskip("minari", reason="the package minari is not installed")
    precious = minari_root / ID / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(UserError, match="not a dataset"):
        export_minari(points(), ID, overwrite=True)
    assert precious.read_text() == "mine"


def test_a_checkpoint_without_a_buffer_is_refused(toy: Any):
    with pytest.raises(UserError, match="offline stage"):
        read_experience(toy.offline_path)
    trainer = toy.fit(toy.algorithm("PEX"), 5)
    trainer.save_checkpoint(toy.folder / "bare.ckpt")
    with pytest.raises(UserError, match="without its replay buffer"):
        read_experience(toy.folder / "bare.ckpt")


@pytest.mark.parametrize(
    "replay",
    [
        [[]],
        [],
        3,
        [[{"file": "x.pt"}]],
        [[{"file": "../../x.pt", "start": 0, "stop": 22}]],
        [[{"file": "x.pt", "start": 0, "stop": 5}, {"file": "y.pt", "start": 7, "stop": 9}]],
    ],
)
def test_a_damaged_list_of_parts_is_a_user_error(toy: Any, replay: Any):
    raw = torch.load(train(toy, 10), weights_only=True)
    raw["data_state"]["replay"] = replay
    torch.save(raw, toy.folder / "other.ckpt")
    with pytest.raises(UserError):
        read_experience(toy.folder / "other.ckpt")


@pytest.mark.parametrize("change", ["policy_index", "observation", "next/reward"])
def test_a_damaged_part_is_a_user_error(toy: Any, change: str):
    path = train(toy, 10)
    part = sorted((toy.folder / "replay" / "rank-0").iterdir())[0]
    columns = torch.load(part, weights_only=True)
    if change == "observation":
        columns[change] = columns[change][:, :2]
    else:
        del columns[change]
    torch.save(columns, part)
    with pytest.raises(UserError, match=r"damaged|does not hold"):
        read_experience(path)
