"""Which data a setting or a word means, and what is said of scores on them."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import pytest

from pex_lightning.d4rl.tasks import find_task
from pex_lightning.data.description import DataDescription
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData
from pex_lightning.data.sources import (
    D4RLSource,
    FileSource,
    MadeSource,
    MinariSource,
    choose_source,
    resolve,
)
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.dataset import Origin
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.recording.make import make_dataset


def description(origin: Origin, dataset: str, env: str, **kwargs: Any) -> DataDescription:
    spec = EnvSpec(env, kwargs, 29, (-1.0,), (1.0,), 700)
    return DataDescription(spec, dataset, "0" * 16, RewardTransform(), origin)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("antmaze-umaze-v2", D4RLSource),
        ("antmaze-umaze", MadeSource),
        ("minari:D4RL/antmaze/umaze-v1", MinariSource),
        ("some/file.hdf5", FileSource),
        ("file.h5", FileSource),
    ],
)
def test_a_word_means_one_kind_of_data(word: str, kind: type) -> None:
    assert type(resolve(word)) is kind


def test_a_word_that_means_nothing_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean antmaze-umaze"):
        resolve("antmaze-umase-v2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "file"}, "pex-lightning data list"),
        ({"source": "make"}, "needs --data.dataset: antmaze"),
        ({"source": "d4rl"}, "needs --data.dataset: antmaze"),
        ({"source": "minari"}, "needs --data.dataset"),
        ({"source": "make", "dataset": "antmaze-umase"}, "antmaze-umaze"),
        ({"source": "d4rl", "dataset": "antmaze-umase-v2"}, "antmaze-umaze-v2"),
    ],
)
def test_settings_that_choose_nothing_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_source(**settings)


def test_minari_can_be_said_in_two_ways() -> None:
    by_path = choose_source("file", path="minari:a/b-v0")
    assert by_path == choose_source("minari", dataset="a/b-v0") == MinariSource("a/b-v0")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a small dataset that is to be made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {"source": "make", "dataset": "pointmaze-medium", "rows": 500}


def test_the_environment_is_the_datas_unless_the_user_names_one(made: Any, toy: Any) -> None:
    data = OfflineData(**made)
    data.prepare_data()
    data.setup()
    assert data.describe().env.id == "pex_lightning/PointMaze-Medium-v0"
    # Another maze has the same sizes: nothing else would tell.
    with pytest.raises(UserError, match="data are from pex_lightning/PointMaze-Medium-v0"):
        OfflineData(env="pex_lightning/PointMaze-Large-v0", **made).setup()
    file = data._data_source().path()
    with pytest.raises(UserError, match=r"--data\.env null"):
        OfflineData(env="pex_lightning/PointMaze-Large-v0", path=str(file)).setup()
    by_file = OfflineData(path=str(file))
    by_file.setup()
    assert by_file.describe() == data.describe()


def test_a_wrong_environment_is_refused_before_anything_is_recorded(
    made: Any, tmp_path: Path
) -> None:
    for wrong in ("pex_lightning/PointMaze-Large-v0", "pex_lightning/PointMaze-Medum-v0"):
        with pytest.raises(UserError, match="pex_lightning/PointMaze-Medium-v0"):
            OfflineData(env=wrong, **made).prepare_data()
    assert not (tmp_path / "cache").exists()


def test_an_offline_stage_by_itself_has_its_data_made(made: Any, toy: Any) -> None:
    stage = OnlineData(**made, start_steps=5, batch_size=8).offline_stage()
    assert toy.fit(toy.algorithm("IQL"), 2, data=stage).global_step == 2


def test_processes_that_start_together_record_once(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []

    def slow(name: str, path: Path, **settings: Any) -> None:
        recorded.append(path)
        time.sleep(0.3)
        make_dataset(name, path, rows=settings["rows"])

    monkeypatch.setattr("pex_lightning.recording.make.make_dataset", slow)
    both = [threading.Thread(target=OfflineData(**made).prepare_data) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(recorded) == 1


def test_what_is_given_cannot_be_chosen_too(made: Any) -> None:
    with pytest.raises(UserError, match="dataset, rows, source: the data are given"):
        OfflineData.of(FileSource(Path("x.hdf5")), **made)


def test_made_data_are_known_wherever_the_file_goes(tmp_path: Path) -> None:
    make_dataset("pointmaze-medium", tmp_path / "made.hdf5", rows=200)
    copy = tmp_path / "antmaze-umaze-v2.hdf5"
    shutil.copy(tmp_path / "made.hdf5", copy)
    info = read_d4rl(copy).info
    assert (info.name, info.origin) == ("made:pointmaze-medium", "made")
    # Not even where it takes the place of one of D4RL's.
    task = find_task("maze2d-medium-v1")
    shutil.copy(copy, tmp_path / Path(task.file).name)
    info = D4RLSource(task, cache_dir=str(tmp_path)).read().info
    assert (info.name, info.origin) == ("made:pointmaze-medium", "made")
    with h5py.File(copy, "r+") as file:
        del file.attrs["generator"]
    assert (read_d4rl(copy).info.name, read_d4rl(copy).info.origin) == ("antmaze-umaze-v2", "file")


def test_a_score_is_d4rls_only_on_its_data_in_its_environment() -> None:
    task = find_task("antmaze-umaze-v2")
    assert task.env is not None
    assert description("d4rl", task.id, task.env).d4rl_score() is True
    assert description("d4rl", task.id, "AntMaze_UMaze-v5").d4rl_score() is False
    assert description("d4rl", task.id, task.env, goal_radius=1.0).d4rl_score() is False
    assert description("made", "made:antmaze-umaze", task.env).d4rl_score() is False
    assert description("minari", "minari:D4RL/antmaze/umaze-v1", task.env).d4rl_score() is False
    # Of a user's own file nothing is known.
    assert description("file", task.id, task.env).d4rl_score() is None
    # A file without a published checksum cannot be known to be D4RL's.
    unsure = find_task("relocate-human-v1")
    assert unsure.env is not None
    assert description("d4rl", unsure.id, unsure.env).d4rl_score() is None
    # Trained in one environment, tested in another.
    other = EnvSpec("AntMaze_UMaze-v5", {}, 29, (-1.0,), (1.0,), 700)
    assert description("d4rl", task.id, task.env).d4rl_score(other) is False


def test_a_description_survives_a_checkpoint() -> None:
    made = description("made", "made:antmaze-umaze", "pex_lightning/AntMaze-UMaze-v0")
    assert DataDescription.from_dict(made.to_dict()) == made
    raw = made.to_dict()
    del raw["origin"]
    # Written before there were origins: nothing is claimed.
    assert DataDescription.from_dict(raw).origin == "file"
    with pytest.raises(ValueError, match="expected an origin"):
        DataDescription.from_dict({**made.to_dict(), "origin": "heaven"})
