"""Minari datasets with damaged metadata: read as they are, or refused in one message."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from mutations import SEED_NAMES, SEEDS, altered, attempt, mutated
from pex_lightning.datasets.minari.reader import minari_environment, minari_notes, read_minari
from pex_lightning.envs.make import EnvSpec

ID = "mine/damaged/data-v0"
SPEC = EnvSpec("Some-v0", {}, 3, (-1.0, -1.0), (1.0, 1.0), 7)
SPACE = {"type": "Box", "dtype": "float32", "title": "x"}
STEPS = 5

seeds = pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)


def counts(few: int, many: int) -> Any:
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.long)])


def metadata() -> dict[str, Any]:
    """As Minari writes it, with the nested objects not yet as text."""
    return {
        "total_episodes": 2,
        "total_steps": 2 * STEPS,
        "data_format": "hdf5",
        "observation_space": {**SPACE, "shape": [3], "low": [-9.0] * 3, "high": [9.0] * 3},
        "action_space": {**SPACE, "shape": [2], "low": [-1.0] * 2, "high": [1.0] * 2},
        "env_spec": {
            "id": "PointMaze_UMaze-v3",
            "entry_point": "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv",
            "max_episode_steps": 300,
            "kwargs": {"maze_map": [[1, 1, 1], [1, 0, 1], [1, 1, 1]], "reward_type": "sparse"},
            "additional_wrappers": [],
        },
        "eval_env_spec": {"id": "PointMaze_UMaze-v3", "kwargs": {}},
        "dataset_id": ID,
    }


def text(value: dict[str, Any]) -> str:
    nested = {key: json.dumps(v) if isinstance(v, dict) else v for key, v in value.items()}
    return json.dumps(nested)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The metadata file of a dataset, without metadata."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("MINARI_REMOTE", "hf://nobody")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / ID / "data"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with h5py.File(folder / "main_data.hdf5", "w") as data:
        for episode in range(2):
            group = data.create_group(f"episode_{episode}")
            group["observations"] = rng.normal(size=(STEPS + 1, 3)).astype(np.float32)
            group["actions"] = rng.uniform(-1, 1, size=(STEPS, 2)).astype(np.float32)
            group["rewards"] = rng.normal(size=STEPS)
            group["terminations"] = np.arange(STEPS) == STEPS - 1
            group["truncations"] = np.zeros(STEPS, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield folder / "metadata.json"


def read_all() -> None:
    for spec in (None, SPEC):
        found, _ = attempt(read_minari, ID, spec=spec)
        assert found is None or len(found.transitions) == 2 * STEPS
    attempt(minari_notes, ID)
    attempt(minari_environment, ID)


@seeds
@counts(20, 1_000)
def test_damaged_metadata_are_read_or_refused(file: Path, count: int, seed: int) -> None:
    content = text(metadata()).encode()
    for damaged in mutated(content, count, seed, head=len(content)):
        file.write_bytes(damaged)
        read_all()


@seeds
@counts(10, 1_000)
def test_altered_metadata_are_read_or_refused(file: Path, count: int, seed: int) -> None:
    for value in altered(metadata(), seed, count):
        file.write_text(text(value))
        read_all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"total_steps": 10**400}, "total_steps is"),
        ({"total_steps": True}, "total_steps is True"),
        ({"total_steps": float("nan")}, "total_steps is nan"),
        ({"total_steps": -1}, "total_steps is -1"),
        ({"total_steps": 2**39}, "memory|steps"),
        ({"total_episodes": 1e30}, "total_episodes is 1e"),
        ({"total_episodes": 2**39}, "episode 2"),
        ({"data_format": "pickle"}, "data_format is 'pickle'"),
        ({"data_format": ["hdf5"]}, "data_format is"),
        ({"observation_space": {"shape": [1e30]}}, "shape is"),
        ({"observation_space": {"shape": [10**30]}}, "numbers"),
        ({"observation_space": {"shape": [float("inf")]}}, "shape is"),
        ({"observation_space": {"shape": [True]}}, "shape is"),
        ({"observation_space": {"shape": ["3"]}}, "shape is"),
        ({"observation_space": {"shape": [-3]}}, "shape is"),
        ({"observation_space": {"shape": [1] * 1000}}, "shape is"),
        ({"observation_space": {"shape": 3}}, "shape is"),
        ({"observation_space": {"shape": [4]}}, r"rows of shape \[3\], expected \[4\]"),
        ({"observation_space": {"dtype": "O"}}, "dtype is 'O'"),
        ({"observation_space": {"dtype": "V1000000000"}}, "dtype is"),
        ({"observation_space": {"dtype": "f4,(2,3)f8"}}, "dtype is"),
        ({"observation_space": {"dtype": None}}, "dtype is None"),
        ({"observation_space": {"type": "Box" * 10_000}}, "of the kind"),
        ({"observation_space": {"type": "Dict", "subspaces": [1]}}, "without entries"),
        ({"observation_space": [1]}, "expected a mapping"),
        ({"action_space": {"low": [float("nan")] * 2}}, "'low' has NaN"),
        ({"action_space": {"low": [2.0, 2.0]}}, "'low' is above 'high'"),
        ({"action_space": {"high": [10**400, 1]}}, "bounds of its action space are damaged"),
        ({"action_space": {"high": [[1.0], [1.0, 2.0]]}}, "bounds of its action space"),
        ({"action_space": {"high": "many"}}, "bounds of its action space are damaged"),
    ],
)
def test_absurd_metadata_are_refused(file: Path, changes: dict[str, Any], says: str) -> None:
    value = metadata()
    for key, change in changes.items():
        value[key] = {**value[key], **change} if isinstance(change, dict) else change
    file.write_text(text(value))
    found, message = attempt(read_minari, ID)
    assert found is None
    assert message is not None
    assert re.search(says, message), message


def test_deep_and_large_metadata_are_refused(file: Path) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    for content in (
        '{"a":' * 10_000,
        text({**metadata(), "env_spec": json.loads(deep)}),
        text(metadata())[:-1] + f', "x": "{"y" * 2**24}"}}',
    ):
        file.write_text(content)
        for reader in (read_minari, minari_environment, minari_notes):
            _, message = attempt(reader, ID)
            assert message is not None
            assert "metadata.json is damaged" in message


@pytest.mark.parametrize("key", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(file: Path, key: str, value: float) -> None:
    file.write_text(text(metadata()))
    with h5py.File(file.parent / "main_data.hdf5", "a") as data:
        column = data["episode_1"][key][()].astype(np.float64)
        column[-1] = value
        del data["episode_1"][key]
        data["episode_1"][key] = column
    _, message = attempt(read_minari, ID)
    assert message is not None
    assert f"episode 1: '{key}' has NaN or infinity" in message


BAD_FLAGS = [np.full(STEPS, 2), np.full(STEPS, 0.5), np.zeros((STEPS, 2)) == 0]
BAD_COLUMNS = [
    np.float32(1),
    np.zeros((STEPS, 1, 1)),
    np.full(STEPS, b"x"),
    np.zeros(STEPS, np.complex64),
    h5py.Empty("f4"),
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("terminations", "truncations") for value in BAD_FLAGS),
        *((key, value) for key in ("terminations", "rewards", "actions") for value in BAD_COLUMNS),
        ("rewards", np.zeros((STEPS, 2))),
        ("actions", np.zeros(STEPS)),
        ("observations", np.zeros((STEPS + 1, 2))),
    ],
)
def test_columns_of_another_kind_are_refused(file: Path, key: str, value: Any) -> None:
    file.write_text(text(metadata()))
    with h5py.File(file.parent / "main_data.hdf5", "a") as data:
        del data["episode_1"][key]
        data["episode_1"][key] = value
    _, message = attempt(read_minari, ID)
    assert message is not None
    assert f"episode 1: '{key}'" in message


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"actions": np.full((STEPS, 2), np.nan)}, "'actions' has NaN or infinity"),
        ({"rewards": [np.inf] * STEPS}, "'rewards' has NaN or infinity"),
        ({"terminations": np.full(STEPS, 2)}, "neither false"),
        ({"observations": np.array([[1], "x"], dtype=object)}, "'observations' has type object"),
        ({"observations": [[1.0], [1.0, 2.0]]}, "episode 0: cannot be read"),
        ({"observations": np.float32(1)}, "'observations' has no rows"),
        ({"truncations": None}, "'truncations' has type object"),
        ({"actions": np.zeros((STEPS + 1, 2))}, "rows of 'actions', expected 5"),
    ],
)
def test_episodes_that_minari_reads_are_checked_too(
    file: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any], says: str
) -> None:
    minari = pytest.importorskip("minari", reason="the package minari is not installed")
    file.write_text(text({**metadata(), "data_format": "arrow"}))
    (file.parent / "0").mkdir()
    episode = {
        "observations": np.zeros((STEPS + 1, 3)),
        "actions": np.zeros((STEPS, 2)),
        "rewards": np.zeros(STEPS),
        "terminations": np.zeros(STEPS, bool),
        "truncations": np.zeros(STEPS, bool),
    }
    episodes = [SimpleNamespace(**{**episode, **odd}), SimpleNamespace(**episode)]
    monkeypatch.setattr(minari, "load_dataset", lambda dataset_id: episodes)
    _, message = attempt(read_minari, ID)
    assert message is not None
    assert says in message


def test_nobody_is_told_to_delete_data(file: Path) -> None:
    for change in ({"total_steps": 3}, {"total_steps": "x"}, {"observation_space": [1]}):
        file.write_text(text({**metadata(), **change}))
        _, message = attempt(read_minari, ID)
        assert message is not None
        assert "Remove" not in message
        assert "if it is your own" in message
