"""Every shipped configuration parses, instantiates and keeps its promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pex_lightning.cli.parser import parse_fit
from pex_lightning.d4rl.tasks import TASKS
from pex_lightning.data.online import OnlineData
from pex_lightning.envs.make import env_spec
from pex_lightning.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "conf").rglob("*.yaml")
    if not {"base", "methods", "ablations", "studies"} & set(path.parts)
)
METHODS = sorted(path.stem for path in (ROOT / "conf" / "methods").iterdir())
ABLATIONS = sorted((ROOT / "conf" / "ablations").iterdir())
TASK_JOBS = [job for job in JOBS if job.startswith("conf/d4rl/")]
# Those of D4RL's tasks differ in little more than names: one of each base is enough here.
REPRESENTATIVES = ("antmaze-umaze-v2", "hopper-medium-v2", "pen-human-v1", "maze2d-umaze-v1")
VARIED = [job for job in JOBS if job not in TASK_JOBS or Path(job).stem in REPRESENTATIVES]


@pytest.mark.parametrize("job", VARIED)
def test_a_job_instantiates(job: str):
    # The environment is the user's in the configuration for what is their own.
    own = ["--data.env=Pendulum-v1"] if job == "conf/own.yaml" else []
    cli = parse_fit(["--config", str(ROOT / job), *own])
    assert cli.setting("trainer.max_steps") > 0
    assert env_spec(cli.datamodule.env, cli.datamodule.env_kwargs).max_episode_steps > 0
    assert cli.setting("run").name != "default"


@pytest.mark.parametrize("job", VARIED)
def test_the_offline_stage_follows_the_online_one(job: str):
    cli = parse_fit(["--config", str(ROOT / job), "--model.expectile=0.66", "--model.gamma=0.5"])
    if not isinstance(cli.datamodule, OnlineData):
        assert cli.setting("offline.model") is None
        return
    offline = cli.setting("offline.model")
    assert (offline.expectile, offline.gamma) == (0.66, 0.5)
    assert offline.networks == cli.model.networks
    assert cli.setting("offline.max_steps") > 0


def test_the_configuration_for_own_data_names_none():
    data = parse_fit(["--config", str(ROOT / "conf/own.yaml")]).datamodule
    assert data.env is None
    with pytest.raises(UserError, match="no dataset"):
        data.prepare_data()


def test_every_base_is_used():
    used = set()
    methods = (ROOT / "conf" / "methods").iterdir()
    for file in (*(ROOT / job for job in JOBS), *methods):
        text = file.read_text()
        used |= set(re.findall(r"base/(\w+\.yaml)", text))
    assert used == {path.name for path in (ROOT / "conf" / "base").iterdir()}


TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
TEXTS += [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "benchmarks").rglob("*.py")]
WRONG_ON_PURPOSE = {
    f"conf/{name}.yaml" for name in ("antmze", "base/comon", "methods/driect", "studies/none")
}


def test_configurations_that_are_named_anywhere_exist():
    named: set[str] = set()
    for path in [*TEXTS, *(ROOT / "tests").rglob("*.py")]:
        named |= set(re.findall(r"\bconf/[\w/-]+\.yaml", path.read_text()))
    assert {name for name in named if not (ROOT / name).exists()} == WRONG_ON_PURPOSE


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=lambda page: page.stem
)
def test_the_pages_of_methods_name_files_that_exist(page: Path):
    files = {path.name for path in (ROOT / "conf").rglob("*.yaml")}
    assert set(re.findall(r"`([\w-]+\.yaml)`", page.read_text())) <= files


def test_every_task_that_runs_has_a_configuration():
    files = {path.stem for path in (ROOT / "conf" / "d4rl").glob("*.yaml")}
    assert files == {task.id for task in TASKS.values() if task.env}


SHARED = [
    "--model.hidden_dims=[32,32]",
    "--model.gamma=0.5",
    "--model.tau=0.25",
    "--model.learning_rate=0.125",
    "--model.compile_update=false",
]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_goes_on_top_of_any_task(method: str):
    overlay = ["--config", str(ROOT / "conf" / "methods" / f"{method}.yaml")]
    for job in ("conf/pointmaze.yaml", "conf/d4rl/hopper-medium-v2.yaml"):
        cli = parse_fit(["--config", str(ROOT / job), *overlay, *SHARED])
        assert cli.model.acts == (method != "offline")
        offline = cli.setting("offline.model")
        assert (offline is not None) == bool(cli.model.takes)
        if offline is not None:
            assert offline.networks.num_q == cli.model.networks.num_q
            assert offline.networks.hidden_dims == [32, 32]
            assert (offline.gamma, offline.tau, offline.learning_rate) == (0.5, 0.25, 0.125)
            assert offline.compile_update is False
        if hasattr(cli.model, "expectile"):
            assert cli.model.expectile == cli.config["model"]["init_args"]["expectile"]


def test_the_row_offline_is_as_long_as_the_stage_of_the_other_rows():
    overlay = str(ROOT / "conf" / "methods" / "offline.yaml")
    cli = parse_fit(["--config", str(ROOT / "conf" / "antmaze.yaml"), "--config", overlay])
    assert cli.setting("trainer.max_steps") == cli.setting("offline.max_steps") == 1_000_000


@pytest.mark.parametrize("file", ABLATIONS, ids=[path.stem for path in ABLATIONS])
def test_an_ablation_goes_on_top_of_a_task(file: Path):
    assert file.read_text().startswith("# ")
    overlay = yaml.safe_load(file.read_text())
    # Every second one on another task: their bases are the same.
    for job in (("conf/pointmaze.yaml", "conf/antmaze.yaml")[ABLATIONS.index(file) % 2],):
        cli = parse_fit(["--config", str(ROOT / job), "--config", str(file)])
        for section, content in overlay.items():
            for key, value in content["init_args"].items():
                assert cli.config[section]["init_args"][key] == value
        assert cli.setting("offline.max_steps") > 0


@pytest.mark.parametrize("job", TASK_JOBS)
def test_a_task_is_configured_as_the_table_says(job: str):
    task = TASKS[Path(job).stem]
    cli = parse_fit(["--config", str(ROOT / job)])
    data = cli.config["data"]["init_args"]
    assert (data["source"], data["dataset"], data["path"]) == ("d4rl", task.id, None)
    assert (data["env"], data["env_kwargs"] or {}) == (task.env, dict(task.env_kwargs))
    assert data["reward_transform"] == task.reward_transform
    model, offline = cli.model, cli.setting("offline.model")
    assert (model.expectile, model.beta) == (task.expectile, task.beta)
    assert (offline.expectile, offline.beta) == (task.expectile, task.beta)
    assert model.inv_temperature == task.inv_temperature
    assert cli.setting("evaluation").episodes == task.episodes
    assert cli.setting("run").name == task.id
    steps = cli.setting("offline.max_steps"), cli.setting("trainer.max_steps")
    assert steps == (1_000_000, 1_000_000)
