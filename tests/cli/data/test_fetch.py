"""`pex-lightning data fetch`."""

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import pytest

from pex_lightning.cli.data import fetch as command_module
from pex_lightning.cli.data.fetch import run
from pex_lightning.d4rl.tasks import D4RLTask
from pex_lightning.errors import UserError
from pex_lightning.evaluation.scores import ScoreReference


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, D4RLTask]:
    names = ("antmaze-one-v2", "antmaze-two-v2")
    known = {
        name: D4RLTask(
            id=name,
            file=f"ant_maze_v2/{name}.hdf5",
            env=None,
            max_episode_steps=10,
            reward_transform="none",
            reference=ScoreReference(0.0, 1.0),
            episodes=1,
            expectile=0.9,
            beta=10.0,
            inv_temperature=10.0,
        )
        for name in names
    }

    def find_task(name: str, recipes: object = ()) -> D4RLTask:
        if name not in known:
            raise UserError(f"there is no task {name!r}")
        return known[name]

    monkeypatch.setattr(command_module, "find_task", find_task)
    for name in ("D4RL_DATASET_DIR", "PEX_LIGHTNING_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    return known


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror" / "ant_maze_v2"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        with h5py.File(folder / f"antmaze-{name}-v2.hdf5", "w") as file:
            file["rewards"] = [float(len(name))]
    return folder.parent


def test_paths_are_printed_one_a_line(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    code = run(
        ["antmaze-one-v2", "antmaze-two-v2", "--mirror", str(mirror), "--cache_dir", str(here)]
    )
    assert code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(here / f"antmaze-{name}-v2.hdf5") for name in ("one", "two")]
    assert all(Path(path).is_file() for path in printed)


def test_mirrors_are_tried_in_their_order(mirror: Path, tmp_path: Path) -> None:
    mirrors = ["--mirror", str(tmp_path / "empty"), "--mirror", str(mirror)]
    run(["antmaze-one-v2", "--cache_dir", str(tmp_path), *mirrors])
    record = json.loads((tmp_path / "antmaze-one-v2.hdf5.json").read_text())
    assert record["url"] == str(mirror / "ant_maze_v2/antmaze-one-v2.hdf5")


def test_force_fetches_again(mirror: Path, tmp_path: Path) -> None:
    arguments = ["antmaze-one-v2", "--mirror", str(mirror), "--cache_dir", str(tmp_path)]
    run(arguments)
    path = tmp_path / "antmaze-one-v2.hdf5"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="--force"):
        run(arguments)
    assert run([*arguments, "--force"]) == 0
    with h5py.File(path) as file:
        assert file["rewards"][0] == 3


def test_a_name_that_is_none_is_found_before_anything_is_fetched(
    mirror: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    with pytest.raises(UserError, match="antmaze-three"):
        run(["antmaze-one-v2", "antmaze-three", "--mirror", str(mirror), "--cache_dir", str(here)])
    assert not here.exists()


@pytest.mark.parametrize("arguments", [[], ["antmaze-one-v2", "--miror", "x"]])
def test_wrong_arguments_are_answered_with_help(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="data fetch --help"):
        run(arguments)


def test_standard_output_has_nothing_but_paths(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    with caplog.at_level(logging.INFO):
        run(["antmaze-one-v2", "--mirror", str(mirror), "--cache_dir", str(tmp_path)])
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'antmaze-one-v2.hdf5'}\n"
    assert "100%" in shown.err
    assert "SHA-256" in caplog.text
