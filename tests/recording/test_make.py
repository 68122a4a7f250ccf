"""The datasets that the package makes: layout, labels, determinism, and never half a file."""

import hashlib
import stat
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pex_lightning.envs.antmaze import AntMazeEnv
from pex_lightning.envs.mazes import MAPS, Maze
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.errors import UserError
from pex_lightning.recording import recipes
from pex_lightning.recording.make import RECIPES, cached_dataset, cached_path, make_dataset
from pex_lightning.version import __version__

NAME = "pointmaze-medium"
ROWS = 6000
RECIPE = RECIPES[NAME]
ANT_ROWS = 3 * 701 + 200
KEYS = ("observations", "actions", "rewards", "terminals", "timeouts", "infos/goal")


def _read(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {key: file[key][:] for key in KEYS}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "data.hdf5"
    make_dataset(NAME, path, rows=ROWS, seed=3)
    return path


@pytest.fixture(scope="module")
def data(made) -> dict[str, np.ndarray]:
    return _read(made)


@pytest.fixture(scope="module")
def ants(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "ants.hdf5"
    make_dataset("antmaze-umaze", path, rows=ANT_ROWS, seed=3, workers=1)
    return path


def test_layout_is_d4rls(made, data):
    shapes = {key: (column.shape, column.dtype) for key, column in data.items()}
    assert shapes == {
        "observations": ((ROWS, 4), np.float32),
        "actions": ((ROWS, 2), np.float32),
        "rewards": ((ROWS,), np.float32),
        "terminals": ((ROWS,), np.bool_),
        "timeouts": ((ROWS,), np.bool_),
        "infos/goal": ((ROWS, 2), np.float32),
    }
    with h5py.File(made) as file:
        found = dict(file.attrs)
    np.testing.assert_array_equal(found["target_goal"], [5, 5])
    expected = {
        "dataset": NAME,
        "env_id": "pex_lightning/PointMaze-Medium-v0",
        "seed": 3,
        "goal_radius": 0.5,
        "rows": ROWS,
        "package_version": __version__,
        "generator": "pex_lightning.recording.make.make_dataset",
        "recipe_version": RECIPE.version,
    }
    assert {key: found[key] for key in expected} == expected


def test_rows_are_what_the_environment_does(data):
    env = PointMazeEnv("medium")
    observations = data["observations"]
    rows = np.flatnonzero(~data["timeouts"])[:1500]
    for i in rows:
        env.set_state(observations[i, :2], observations[i, 2:])
        after = env.step(data["actions"][i])[0]
        np.testing.assert_allclose(after, observations[i + 1], atol=2e-3)
    env.close()


def test_every_episode_ends_in_a_timeout(data):
    ends = np.flatnonzero(data["timeouts"])
    length = RECIPE.episode_steps + 1
    np.testing.assert_array_equal(ends[:-1], np.arange(length - 1, ROWS - 1, length))
    assert ends[-1] == ROWS - 1
    starts = np.append(0, ends[:-1] + 1)
    np.testing.assert_array_equal(data["observations"][starts, 2:], 0)


def test_rewards_follow_from_the_evaluation_goal(data):
    near = np.linalg.norm(data["observations"][1:, :2] - 5.0, axis=1) <= 0.5
    expected = np.append(near, False) & ~data["timeouts"]
    np.testing.assert_array_equal(data["rewards"], expected)
    np.testing.assert_array_equal(data["terminals"], expected)
    assert 0 < expected.mean() < 0.2


def test_actions_are_noisy_and_within_bounds(data):
    actions = data["actions"]
    assert np.abs(actions).max() == 1.0
    assert 0.001 < (np.abs(actions) == 1.0).mean() < 0.5
    assert actions.std(0).min() > 0.2


def test_the_maze_is_covered_and_respected(data):
    maze = Maze(MAPS["medium"], 1.0, 0.4)
    visited = {maze.to_cell(xy) for xy in data["observations"][:, :2]}
    assert visited == set(maze.free_cells)
    goals = {maze.to_cell(xy) for xy in data["infos/goal"]}
    assert goals == set(maze.free_cells)


def test_no_episode_goes_all_the_way(data):
    episodes = np.split(data["observations"][:, :2], np.flatnonzero(data["timeouts"])[:-1] + 1)
    from_start = [xy for xy in episodes if np.linalg.norm(xy[0]) < 0.5]
    assert from_start
    assert all(np.linalg.norm(xy - 5.0, axis=1).min() > 0.5 for xy in from_start)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, second, other = (tmp_path / name for name in "abc")
    make_dataset(NAME, first, rows=200, seed=1)
    make_dataset(NAME, second, rows=200, seed=1)
    make_dataset(NAME, other, rows=200, seed=2)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_processes_does_not_show(ants, tmp_path, workers):
    path = tmp_path / "ants.hdf5"
    make_dataset("antmaze-umaze", path, rows=ANT_ROWS, seed=3, workers=workers)
    assert path.read_bytes() == ants.read_bytes()


def test_the_point_mass_walks_as_it_did_when_its_recipe_got_its_version(made, data):
    # Cached files are found by the version: other data need another one.
    assert RECIPE.version == 2
    digest = hashlib.sha256(data["actions"].round(2).tobytes()).hexdigest()
    assert digest == "d714be6f761effd2cb7854ce0e959dbb1b845f1c9131ca6aa42ffadc95663001"


def test_ants_are_recorded_in_d4rls_layout(ants):
    data = _read(ants)
    shapes = {key: (column.shape, column.dtype) for key, column in data.items()}
    assert shapes == {
        "observations": ((ANT_ROWS, 29), np.float32),
        "actions": ((ANT_ROWS, 8), np.float32),
        "rewards": ((ANT_ROWS,), np.float32),
        "terminals": ((ANT_ROWS,), np.bool_),
        "timeouts": ((ANT_ROWS,), np.bool_),
        "infos/goal": ((ANT_ROWS, 2), np.float32),
    }
    np.testing.assert_array_equal(np.flatnonzero(data["timeouts"]), [700, 1401, 2102, ANT_ROWS - 1])
    with h5py.File(ants) as file:
        found = dict(file.attrs)
    np.testing.assert_array_equal(found["target_goal"], [0.75, 8.75])
    np.testing.assert_array_equal(found["recipe/goal_cells"], [[3, 1]])
    assert found["env_id"] == "pex_lightning/AntMaze-UMaze-v0"
    assert found["goal_radius"] == 0.5
    assert found["recipe/action_noise"] == 0.2


def test_ants_are_labelled_row_by_row_from_the_one_goal(ants):
    data = _read(ants)
    xy = data["observations"][:, :2].astype(np.float64)
    for i in range(ANT_ROWS):
        near = not data["timeouts"][i] and np.hypot(*(xy[i + 1] - [0.75, 8.75])) <= 0.5
        assert data["rewards"][i] == data["terminals"][i] == near
    assert 100 < data["rewards"].sum() < ANT_ROWS / 2


def test_ants_rows_are_what_the_environment_does(ants):
    data = _read(ants)
    observations = data["observations"].astype(np.float64)
    env = AntMazeEnv("umaze")
    for i in range(0, 600, 7):
        env.set_state(observations[i, :15], observations[i, 15:])
        after = env.step(data["actions"][i])[0]
        # The recorded state was not rounded to float32; contacts make the most of it.
        np.testing.assert_allclose(after, observations[i + 1], atol=2e-3)
    env.close()


def test_a_longer_dataset_begins_with_the_shorter_one(made, tmp_path):
    length = RECIPE.episode_steps + 1
    make_dataset(NAME, tmp_path / "short", rows=length, seed=3)
    with h5py.File(tmp_path / "short") as short, h5py.File(made) as long:
        np.testing.assert_array_equal(short["actions"], long["actions"][:length])


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "data.hdf5"
    path.write_text("old")

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(h5py.File, "create_dataset", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        make_dataset(NAME, path, rows=100)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_ordinary_permissions(made):
    plain = made.with_suffix(".txt")
    plain.touch()
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_progress_is_shown_only_on_request(tmp_path, capsys):
    make_dataset(NAME, tmp_path / "a", rows=100)
    assert capsys.readouterr() == ("", "")
    make_dataset(NAME, tmp_path / "b", rows=100, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("\n")
    assert "100/100" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "pointmaze-medum"}, "did you mean 'pointmaze-medium'"),
        ({"rows": 1}, "rows is 1; it must be 2"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0; it must be 1"),
        ({"name": "antmaze-umaze-v2"}, "pex-lightning data make antmaze-umaze"),
        ({"path": Path("/no/such/folder/data.hdf5")}, "/no/such/folder cannot be written"),
        ({"path": Path("/proc/data.hdf5")}, "/proc cannot be written"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, words):
    given = {"name": NAME, "path": tmp_path / "data.hdf5", "rows": 100, **arguments}
    with pytest.raises(UserError, match=words):
        make_dataset(**given)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_filled_once_per_content(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cached_dataset(NAME, rows=100, seed=4)
    assert path.parent == tmp_path / "pex-lightning" / "made"
    assert path == cached_path(NAME, rows=100, seed=4)
    assert path.name == f"pointmaze-medium-rows100-seed4-v{RECIPE.version}.hdf5"
    written = path.stat().st_mtime_ns
    assert cached_dataset(NAME, rows=100, seed=4) == path
    assert path.stat().st_mtime_ns == written
    changed = {NAME: replace(RECIPE, version=RECIPE.version + 1)}
    monkeypatch.setattr(recipes, "RECIPES", changed)
    others = [
        cached_dataset(NAME, rows=100, seed=4),
        cached_dataset(NAME, rows=101, seed=4, cache_dir=tmp_path / "mine"),
        cached_dataset(NAME, rows=101, seed=5, cache_dir=tmp_path / "mine"),
    ]
    assert len({path, *others}) == 4
    assert all(other.is_file() for other in others)


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"dataset folder .*file.*XDG_CACHE_HOME"):
        cached_dataset(NAME, rows=100, cache_dir=tmp_path / "file")
