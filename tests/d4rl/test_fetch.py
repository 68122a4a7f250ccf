"""D4RL's datasets by their tasks' names, from a local server that plays D4RL's host."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pex_lightning.d4rl.checksums import PUBLISHED
from pex_lightning.d4rl.fetch import DEFAULT_MIRRORS, fetch_task, find_fetched
from pex_lightning.d4rl.tasks import TASKS, D4RLTask, find_task
from pex_lightning.errors import UserError
from pex_lightning.evaluation.scores import ScoreReference
from pex_lightning.files.downloads.transfer import Patience

TASK = D4RLTask(
    id="antmaze-tiny-v2",
    file="ant_maze_v2/tiny_fixed.hdf5",
    env=None,
    max_episode_steps=10,
    reward_transform="none",
    reference=ScoreReference(0.0, 1.0),
    episodes=1,
    expectile=0.9,
    beta=10.0,
    inv_temperature=10.0,
)
NAME = "tiny_fixed.hdf5"
QUICK = Patience(connect=2, read=1, tries=2, backoff=0.001)


def hdf5(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["rewards"] = np.random.default_rng(seed).normal(size=20_000)
    return buffer.getvalue()


CONTENT, OTHER = hdf5(), hdf5(1)
PINNED = dataclasses.replace(TASK, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def fetch(task: D4RLTask = TASK, *mirrors: str, **kwargs: Any) -> Path:
    settings = {"progress": False, "patience": QUICK, **kwargs}
    return fetch_task(task, mirrors=mirrors or None, **settings)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("D4RL_DATASET_DIR", "XDG_CACHE_HOME", "PEX_LIGHTNING_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def mirror(server: Any, serve: Any) -> str:
    serve(f"/d4rl/{TASK.file}", CONTENT)
    return f"{server.url}/d4rl"


def test_a_dataset_is_fetched_once(server: Any, mirror: str, home: Path) -> None:
    assert find_fetched(TASK) is None
    path = fetch(TASK, mirror)
    assert path == home / ".cache/pex-lightning/d4rl" / NAME
    assert path.read_bytes() == CONTENT
    assert fetch(TASK, mirror) == find_fetched(TASK) == path
    assert len(server.asked) == 1


def test_looking_for_a_dataset_writes_nothing(home: Path) -> None:
    find_fetched(TASK)
    assert list(home.iterdir()) == []


def test_the_settings_choose_the_folder(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch(TASK, mirror) == tmp_path / "xdg/pex-lightning/d4rl" / NAME
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    assert fetch(TASK, mirror) == tmp_path / "d4rl" / NAME
    assert fetch(TASK, mirror, cache_dir=tmp_path / "mine") == tmp_path / "mine" / NAME
    assert find_fetched(TASK) == tmp_path / "d4rl" / NAME
    assert find_fetched(TASK, cache_dir=str(tmp_path / "mine")) == tmp_path / "mine" / NAME


def test_mirrors_are_an_argument_or_a_variable(
    server: Any, serve: Any, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEX_LIGHTNING_MIRRORS", f"{server.url}/empty, {mirror}/")
    fetch(TASK, cache_dir=tmp_path / "a")
    assert [asked["path"] for asked in server.asked] == [
        f"/empty/{TASK.file}",
        f"/d4rl/{TASK.file}",
    ]
    serve(f"/other/{TASK.file}", OTHER)
    path = fetch(TASK, f"{server.url}/other", cache_dir=tmp_path / "b")
    assert path.read_bytes() == OTHER


def test_a_mirror_may_have_a_layout_of_its_own(server: Any, serve: Any, tmp_path: Path) -> None:
    serve(f"/flat/{NAME}", CONTENT)
    path = fetch(TASK, server.url + "/flat/{name}", cache_dir=tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("layout", [TASK.file, NAME])
def test_a_mirror_may_be_a_folder(tmp_path: Path, layout: str) -> None:
    file = tmp_path / "mirror" / layout
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert fetch(TASK, str(tmp_path / "mirror")).read_bytes() == CONTENT


def test_d4rls_own_copy_is_used(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = home / ".d4rl/datasets" / NAME
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT)
    assert find_fetched(TASK) == theirs
    with caplog.at_level(logging.INFO):
        assert fetch(TASK) == theirs
    assert f"{theirs}: D4RL's own copy is used" in caplog.text


def test_d4rls_own_copy_is_not_used_where_a_folder_was_chosen(
    home: Path, mirror: str, tmp_path: Path
) -> None:
    theirs = home / ".d4rl/datasets" / NAME
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT)
    assert find_fetched(TASK, cache_dir=tmp_path) is None
    assert fetch(TASK, mirror, cache_dir=tmp_path) == tmp_path / NAME


def test_size_and_checksum_are_recorded_at_the_first_fetch(mirror: str) -> None:
    path = fetch(TASK, mirror)
    assert json.loads(path.with_name(f"{NAME}.json").read_text()) == {
        "url": f"{mirror}/{TASK.file}",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }


def test_a_file_that_changed_since_is_refused(mirror: str) -> None:
    path = fetch(TASK, mirror)
    assert len(OTHER) == len(CONTENT)
    path.write_bytes(OTHER)
    with pytest.raises(UserError, match=r"has SHA-256 .*--force"):
        fetch(TASK, mirror)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(UserError, match=f"has {len(CONTENT) + 4} bytes, expected {len(CONTENT)}"):
        fetch(TASK, mirror)
    assert find_fetched(TASK) is None
    assert fetch(TASK, mirror, force=True).read_bytes() == CONTENT


def test_another_file_on_the_mirror_is_reported(
    mirror: str, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch(TASK, mirror)
    serve(f"/d4rl/{TASK.file}", OTHER)
    fetch(TASK, mirror, force=True)
    assert "another file than the one fetched before" in caplog.text
    assert path.read_bytes() == OTHER
    assert fetch(TASK) == path


def test_a_file_without_record_is_adopted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    assert find_fetched(TASK, cache_dir=tmp_path) == path
    with caplog.at_level(logging.INFO):
        assert fetch(TASK, cache_dir=tmp_path) == path
    assert "recorded its size and SHA-256" in caplog.text
    path.write_bytes(OTHER)
    with pytest.raises(UserError, match="has SHA-256"):
        fetch(TASK, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(CONTENT[: len(CONTENT) // 2], "cannot be read"), (b"<html>", "not an HDF5 file")],
    ids=["cut short", "no HDF5"],
)
def test_what_is_no_dataset_is_not_adopted(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert find_fetched(TASK, cache_dir=tmp_path) is None
    with pytest.raises(UserError, match=rf"(?s){said}.*fetch antmaze-tiny-v2 --force"):
        fetch(TASK, cache_dir=tmp_path)
    assert not (tmp_path / f"{NAME}.json").exists()


def test_a_damaged_record_is_not_used(mirror: str) -> None:
    path = fetch(TASK, mirror)
    record = path.with_name(f"{NAME}.json")
    record.write_text("{")
    assert fetch(TASK, mirror) == path
    assert json.loads(record.read_text())["size"] == len(CONTENT)


def test_published_figures_are_asked_of_every_file(
    server: Any, serve: Any, mirror: str, tmp_path: Path
) -> None:
    serve(f"/bad/{TASK.file}", OTHER)
    with pytest.raises(UserError, match=f"wrong bytes: SHA-256 .*expected {PINNED.sha256}"):
        fetch(PINNED, f"{server.url}/bad")
    assert find_fetched(PINNED) is None
    fetch(PINNED, f"{server.url}/bad", mirror)
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(UserError, match="has SHA-256"):
        fetch(PINNED, cache_dir=tmp_path)


def test_d4rls_files_have_their_published_figures(tmp_path: Path) -> None:
    task = find_task("antmaze-umaze-v2")
    (tmp_path / Path(task.file).name).write_bytes(CONTENT)
    with pytest.raises(UserError, match="expected 232532949"):
        fetch(task, cache_dir=tmp_path)
    # A line copied twice would be a wrong one.
    assert len({sha256 for _, sha256 in PUBLISHED.values()}) == len(PUBLISHED)
    assert set(PUBLISHED) <= {task.file for task in TASKS.values()}


def test_what_is_downloaded_must_be_hdf5(server: Any, serve: Any) -> None:
    serve(f"/d4rl/{TASK.file}", b"not found, sorry")
    with pytest.raises(UserError, match=r"not an HDF5 file \(it begins with b'not found"):
        fetch(TASK, f"{server.url}/d4rl")
    assert find_fetched(TASK) is None


def test_without_a_mirror_the_error_names_the_other_ways(
    server: Any, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        fetch(TASK, f"{server.url}/empty", "/nowhere/at/all")
    said = str(caught.value)
    assert f"{server.url}/empty/{TASK.file}: the file is not there (HTTP 404" in said
    assert f"/nowhere/at/all/{TASK.file}: No such file or directory" in said
    for way in (
        "pex-lightning data make antmaze-tiny ",
        "--data.path FILE",
        "--mirror URL",
        "minari:",
        "D4RL_DATASET_DIR",
    ):
        assert way in said


def test_only_mazes_can_be_recorded_instead(server: Any) -> None:
    task = dataclasses.replace(TASK, id="hopper-medium-v2")
    with pytest.raises(UserError) as caught:
        fetch(task, f"{server.url}/empty")
    assert "data make" not in str(caught.value)


def test_d4rls_host_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_name(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_name)
    with pytest.raises(UserError) as caught:
        fetch(TASK)
    assert set(asked) == {"rail.eecs.berkeley.edu"}
    for mirror in DEFAULT_MIRRORS:
        assert f"{mirror}/{TASK.file}: no connection (Name or service not known)" in str(
            caught.value
        )
    # A copy that others keep is trusted only with a published checksum.
    with pytest.raises(UserError):
        fetch(PINNED)
    assert set(asked) == {"rail.eecs.berkeley.edu", "huggingface.co"}


def test_two_at_a_time_download_once(server: Any, serve: Any, tmp_path: Path) -> None:
    serve(f"/d4rl/{TASK.file}", CONTENT, drops=[70_000])
    paths: list[Path] = []

    def one() -> None:
        slow = Patience(connect=2, read=1, tries=2, backoff=0.2)
        paths.append(fetch(TASK, f"{server.url}/d4rl", cache_dir=tmp_path, patience=slow))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / NAME] * 3
    assert (tmp_path / NAME).read_bytes() == CONTENT
    # The one that broke and its resumption.
    assert len(server.asked) == 2
    assert sorted(path.name for path in tmp_path.glob("*tiny*")) == [NAME, f"{NAME}.json"]


def test_a_folder_in_place_of_the_file_is_named(mirror: str, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match="is a folder, expected the dataset of antmaze-tiny-v2"):
        fetch(TASK, mirror, cache_dir=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_shared_read_only_folder_can_be_used(mirror: str, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    folder.chmod(0o500)
    try:
        assert fetch(TASK, mirror, cache_dir=folder) == folder / NAME
    finally:
        folder.chmod(0o700)


def test_a_record_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    (tmp_path / f"{NAME}.json").mkdir()
    with caplog.at_level(logging.INFO):
        assert fetch(TASK, cache_dir=tmp_path) == tmp_path / NAME
    assert "its checksum cannot be recorded there" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_named(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pex_lightning.files.downloads.part_file.os.open", read_only)
    with pytest.raises(UserError, match=r"cannot be written to \(Permission denied\).*--cache_dir"):
        fetch(TASK, mirror, cache_dir=tmp_path)


def test_no_two_tasks_share_a_name_in_the_flat_folder() -> None:
    files = {task.file for task in TASKS.values()}
    assert len({Path(file).name for file in files}) == len(files) > 0
