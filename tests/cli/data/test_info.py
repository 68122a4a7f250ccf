from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.recording.make import make_dataset

Run = Callable[..., Any]
ENV = "pex_lightning/PointMaze-Medium-v0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short recording of a maze, which says its environment."""
    path = tmp_path_factory.mktemp("made") / "made.hdf5"
    make_dataset("pointmaze-medium", path, rows=400)
    return path


def plain(path: Path, rows: int = 50, obs_dim: int = 29, **changes: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    data = {
        "observations": rng.normal(size=(rows, obs_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 8)).astype(np.float32),
        "rewards": np.zeros(rows, np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 10 == 9,
    }
    with h5py.File(path, "w") as file:
        for key, values in (data | changes).items():
            file[key] = values
    return path


def test_says_what_is_in_a_file(command: Run, tmp_path: Path) -> None:
    path = plain(tmp_path / "log.hdf5", rows=53)
    outcome = command("data", "info", str(path))
    assert outcome.code == 0
    said = " ".join(outcome.out.split())
    assert "rows 53 (" in said
    assert (
        "transitions 47 kept, 6 rows dropped: 5 time-outs (no next observation in the file), the "
        "last row" in said
    )
    assert "episodes 5 complete; 3 rows after the last of them" in said
    assert f"fingerprint {read_d4rl(path).info.fingerprint}" in said
    assert "rewards 0 (53 rows)" in said
    assert "min 5% 25% 50% 75% 95% max" in said
    assert "--env ID --picture FILE.png" in said
    lines = outcome.out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("file")) <= 100
    # Twenty-nine numbers are put together, unless all are asked for.
    assert "0 to 3" in said
    every = command("data", "info", str(path), "--all").out
    assert "0 to 3" not in every
    assert len(every.splitlines()) > len(lines) + 15


def test_says_which_column_ends_episodes_and_what_is_not_read(command: Run, tmp_path: Path) -> None:
    path = plain(tmp_path / "log.hdf5", version=np.float32(1), ids=np.arange(50))
    with h5py.File(path, "a") as file:
        file.move("timeouts", "truncations")
    said = " ".join(command("data", "info", str(path)).out.split())
    assert "time-outs 5, told by 'truncations'" in said
    assert "not read ids, version" in said


def test_prints_json(command: Run, tmp_path: Path) -> None:
    path = plain(tmp_path / "log.hdf5")
    found = json.loads(command("data", "info", str(path), "--json").out)
    info = read_d4rl(path).info
    assert found["info"]["fingerprint"] == info.fingerprint
    assert (found["rows"], found["transitions"]) == (info.rows, info.transitions)
    assert len(found["observations"]) == 29
    assert found["refused"] is None


def test_a_file_with_nan_is_described(command: Run, tmp_path: Path) -> None:
    bad = np.zeros((50, 3), np.float32)
    bad[4, 1], bad[:, 2] = np.inf, np.nan
    path = plain(tmp_path / "log.hdf5", observations=bad)
    outcome = command("data", "info", str(path))
    assert outcome.code == 2
    assert "error: training refuses" in outcome.err
    said = " ".join(outcome.out.split())
    assert "Training refuses this dataset" in said
    assert "'observations' has NaN or infinity in 50 of 50 rows, first in row 0" in said
    assert "1 NaN or infinite" in said
    assert "50 NaN or infinite" in said
    # Valid JSON, which has no NaN.
    found = json.loads(command("data", "info", str(path), "--json").out, parse_constant=pytest.fail)
    assert found["observations"][2] == {
        "low": None,
        "high": None,
        "mean": None,
        "std": None,
        "bad": 50,
    }


def test_a_maze_is_known_from_the_file_and_drawn_when_asked(
    command: Run, made: Path, tmp_path: Path
) -> None:
    before = sorted(made.parent.iterdir())
    outcome = command("data", "info", str(made))
    said = " ".join(outcome.out.split())
    assert f"environment {ENV}" in said
    assert "made:pointmaze-medium (made by this package)" in said
    assert "--picture FILE.png draws" in said
    assert sorted(made.parent.iterdir()) == before
    picture = tmp_path / "data.png"
    outcome = command("data", "info", str(made), "--picture", str(picture))
    assert outcome.code == 0
    assert f"written to {picture}" in " ".join(outcome.out.split())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_another_maze_is_noticed(command: Run, made: Path) -> None:
    other = "pex_lightning/PointMaze-UMaze-v0"
    outcome = command("data", "info", str(made), "--env", other)
    assert "these data are from another maze" in " ".join(outcome.out.split())
    right = command("data", "info", str(made), "--env", ENV)
    assert "another maze" not in right.out


def test_other_data_are_drawn_too(command: Run, tmp_path: Path) -> None:
    path, picture = plain(tmp_path / "log.hdf5"), tmp_path / "a.png"
    outcome = command("data", "info", str(path), "--picture", str(picture))
    assert outcome.code == 0, outcome.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"written to {picture}" in " ".join(outcome.out.split())
    picture.unlink()
    assert "--picture FILE.png draws returns" in " ".join(
        command("data", "info", str(path), "--env", "Pendulum-v1").out.split()
    )
    outcome = command("data", "info", str(path), "--picture", str(tmp_path / "a.jpg"))
    assert outcome.code == 2
    assert "expected .png" in outcome.err
    narrow = plain(tmp_path / "narrow.hdf5", obs_dim=1)
    outcome = command("data", "info", str(narrow), "--picture", str(picture), "--env", ENV)
    assert outcome.code == 2
    assert "observations have one number" in outcome.err
    assert not picture.exists()


@pytest.mark.parametrize("named", ["antigravity:Any-v0", "Pendulum-v1", "pex_lightning/None-v0", 7])
def test_nothing_that_a_file_names_is_imported(command: Run, tmp_path: Path, named: object) -> None:
    path = plain(tmp_path / "log.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["env_id"] = named
    outcome = command("data", "info", str(path))
    assert outcome.code == 0
    assert "environment   not known" in outcome.out
    assert "antigravity" not in sys.modules


def test_episodes_end_where_the_user_says(command: Run, tmp_path: Path) -> None:
    path = plain(tmp_path / "log.hdf5")
    with h5py.File(path, "a") as file:
        del file["timeouts"]
    outcome = command("data", "info", str(path))
    assert outcome.code == 2
    assert "give --env ID or --max_episode_steps N" in outcome.out
    outcome = command("data", "info", str(path), "--max_episode_steps", "20")
    said = " ".join(outcome.out.split())
    assert "time-outs 2, derived" in said
    assert "episodes 2 complete; 10 rows after" in said


def test_what_is_not_here_is_not_downloaded(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for reference, advice in (
        ("antmaze-umaze-v2", "pex-lightning data fetch antmaze-umaze-v2"),
        ("pointmaze-medium", "pex-lightning data make pointmaze-medium"),
        ("minari:D4RL/antmaze/umaze-v1", "--fetch"),
    ):
        outcome = command("data", "info", reference)
        assert outcome.code == 2, outcome
        assert advice in outcome.err
        assert outcome.out == ""
    assert not list(tmp_path.rglob("*.hdf5"))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["nothing-here"], "is no file, no task of D4RL"),
        (["missing.hdf5"], "there is no file missing.hdf5"),
        (["text.hdf5"], "is not an HDF5 file"),
        (["short.hdf5"], "keys observations, actions, rewards are missing"),
        (["log.hdf5", "--env_kwargs", '{"maze": "large"}'], "name it with --env"),
        (["log.hdf5", "--env", "Nothing-v0"], "found no environment 'Nothing-v0'"),
        (["pointmaze-medium", "--max_episode_steps", "3"], "Leave it out"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str],
    found: str,
    command: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "log.hdf5")
    (tmp_path / "text.hdf5").write_text("404")
    with h5py.File(tmp_path / "short.hdf5", "w") as file:
        file["terminals"] = np.zeros(3)
    outcome = command("data", "info", *arguments)
    assert outcome.code == 2
    assert found in outcome.err
