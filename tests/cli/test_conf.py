"""`conf list`, `show` and `copy`, and where `--config` and `base:` find a file."""

import re
from pathlib import Path

import pytest

from pex_lightning.cli.config_files import expand_bases
from pex_lightning.cli.parser import parse_fit
from pex_lightning.shipped import FOLDER, shipped_names


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_names_every_configuration(command):
    outcome = command("conf", "list")
    assert outcome.code == 0
    assert sorted(re.findall(r"^  (conf/\S+)", outcome.out, re.M)) == shipped_names()


def test_a_copy_means_what_the_original_means(command, empty: Path):
    for name in ("antmaze", "conf/iql/pointmaze.yaml", "hopper-medium-v2"):
        outcome = command("conf", "copy", name, f"{Path(name).stem}-mine.yaml")
        assert outcome.code == 0, outcome.err
    ours = parse_fit(["--config", "conf/iql/pointmaze.yaml"])
    assert parse_fit(["--config", "pointmaze-mine.yaml"]).resolved(1) == ours.resolved(1)
    shown = command("conf", "show", "iql/pointmaze")
    assert shown.out == (empty / "pointmaze-mine.yaml").read_text()


def test_copy_replaces_nothing(command, refused, empty: Path):
    (empty / "antmaze.yaml").write_text("mine")
    refused(command("conf", "copy", "conf/antmaze.yaml"), "antmaze.yaml is there already")
    assert (empty / "antmaze.yaml").read_text() == "mine"
    refused(command("conf", "copy", "antmaze", "no/where.yaml"), "no/where.yaml", "writable")


def test_the_folders_own_file_comes_first(empty: Path):
    assert expand_bases(["--config", "conf/methods/pex.yaml"]) == [
        "--config",
        str(FOLDER / "methods/pex.yaml"),
    ]
    (empty / "conf/methods").mkdir(parents=True)
    (empty / "conf/methods/pex.yaml").write_text("{}")
    assert expand_bases(["-c=conf/methods/pex.yaml"]) == ["--config", "conf/methods/pex.yaml"]


def test_a_name_that_is_nowhere_is_refused_with_the_nearest(command, refused, empty: Path):
    refused(command("fit", "--config=conf/antmze.yaml"), "conf/antmaze.yaml", "conf list")
    (empty / "mine.yaml").write_text("base: [conf/base/comon.yaml]")
    refused(command("fit", "-c", "mine.yaml"), "mine.yaml", "under `base`", "conf/base/common.yaml")
    refused(command("conf", "show", "antmze"), "'antmze'", "conf/antmaze.yaml")
    refused(command("conf", "show", "antmaze-umaze"), "'antmaze-umaze'", "antmaze-umaze-v2")
    refused(command("conf", "shw", "antmaze"), "shw antmaze", "show NAME")
