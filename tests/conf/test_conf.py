"""Every shipped configuration parses, instantiates and keeps its promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pex_lightning.cli.parser import parse_fit
from pex_lightning.data.online import OnlineData
from pex_lightning.envs.make import env_spec

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "conf").rglob("*.yaml")
    if "base" not in path.parts
)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_instantiates(job: str):
    cli = parse_fit(["--config", str(ROOT / job)])
    assert cli.setting("trainer.max_steps") > 0
    assert env_spec(cli.datamodule.env, cli.datamodule.env_kwargs).max_episode_steps > 0
    assert cli.setting("run.name") != "default"


@pytest.mark.parametrize("job", JOBS)
def test_the_offline_stage_follows_the_online_one(job: str):
    cli = parse_fit(["--config", str(ROOT / job), "--model.expectile=0.66", "--model.gamma=0.5"])
    if not isinstance(cli.datamodule, OnlineData):
        assert cli.setting("offline.model") is None
        return
    offline = cli.setting("offline.model")
    assert (offline.expectile, offline.gamma) == (0.66, 0.5)
    assert offline.hidden_dims == cli.model.hidden_dims
    assert cli.setting("offline.max_steps") > 0


def test_every_base_is_used():
    used = set()
    for job in JOBS:
        text = (ROOT / job).read_text()
        used |= set(re.findall(r"base/(\w+\.yaml)", text))
    assert used == {path.name for path in (ROOT / "conf" / "base").iterdir()}


def test_the_readme_names_only_configurations_that_exist():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"conf/[\w/]+\.yaml", text))
    assert named
    assert all((ROOT / name).exists() for name in named)
