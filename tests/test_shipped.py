"""The configurations that come with the package: their names, and that copies of them work."""

from pathlib import Path

import pytest
import yaml

from pex_lightning.shipped import FOLDER, close_to, copied_text, shipped_config, shipped_names


def test_every_configuration_of_the_repository_is_shipped():
    files = Path(__file__).parents[1].glob("conf/**/*.yaml")
    assert set(shipped_names()) == {f"conf/{p.relative_to(FOLDER.resolve())}" for p in files}
    found = shipped_config("conf/methods/../antmaze.yaml")
    assert found is not None
    assert found.samefile("conf/antmaze.yaml")


@pytest.mark.parametrize("name", ["antmaze.yaml", "conf/../version.py", "conf/base", "/etc/hosts"])
def test_nothing_else_is(name: str):
    assert shipped_config(name) is None


@pytest.mark.parametrize("name", shipped_names())
def test_the_bases_of_a_copy_are_shipped(name: str):
    text = copied_text(name)
    bases = yaml.safe_load(text).get("base", [])
    assert all(shipped_config(base) is not None for base in bases)
    assert len(bases) == len(yaml.safe_load((FOLDER.parent / name).read_text()).get("base", []))


def test_a_misspelt_name_has_a_close_one():
    assert close_to("conf/antmze.yaml")[0] == "conf/antmaze.yaml"
    assert close_to("Hopper-medium-v2")[0] == "conf/d4rl/hopper-medium-v2.yaml"
    assert close_to("something else") == []
