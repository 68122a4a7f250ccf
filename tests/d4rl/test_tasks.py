"""The table of tasks says what D4RL says, and its environments are those of the data."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import gymnasium
import numpy as np
import pytest

from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.d4rl.tasks import TASKS, D4RLTask, find_task
from pex_lightning.envs import env_spec, make_env
from pex_lightning.errors import UserError
from pex_lightning.recording.recipes import RECIPES

RUNNABLE = [task for task in TASKS.values() if task.env]
SIZES = {
    "antmaze": (29, 8),
    "halfcheetah": (17, 6),
    "hopper": (11, 3),
    "walker2d": (17, 6),
    "pen": (45, 24),
    "door": (39, 28),
    "hammer": (46, 26),
    "relocate": (39, 30),
    "maze2d": (4, 2),
}


@pytest.fixture(scope="module")
def d4rl() -> Path:
    """The folder of the package d4rl, whose import fails; `find_spec` does not import it."""
    found = find_spec("d4rl")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package d4rl: pip install --no-deps d4rl==1.1")
    return Path(found.submodule_search_locations[0])


@pytest.fixture(scope="module")
def infos(d4rl: Path) -> ModuleType:
    spec = spec_from_file_location("d4rl_infos", d4rl / "infos.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ids(task: D4RLTask) -> str:
    return task.id


@pytest.mark.parametrize("task", TASKS.values(), ids=ids)
def test_url_and_references_are_d4rls(task: D4RLTask, infos: ModuleType) -> None:
    assert task.url == infos.DATASET_URLS[task.id]
    assert task.reference.minimum == infos.REF_MIN_SCORE[task.id]
    assert task.reference.maximum == infos.REF_MAX_SCORE[task.id]


def registered_limits(file: Path) -> dict[str, int]:
    """Steps by the source text of the id, from the calls of `register(id=..., ...)`."""
    limits = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            steps = given["max_episode_steps"]
            if isinstance(steps, ast.Constant):
                limits[ast.unparse(given["id"]).strip("'")] = steps.value
    return limits


def assigned(file: Path, name: str) -> dict[str, int]:
    """The literal that a module assigns to `name`."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{file} assigns no {name}")


def test_episode_limits_are_d4rls(d4rl: Path) -> None:
    limits = {}
    for folder in ("locomotion", "pointmaze", "kitchen", "gym_mujoco"):
        limits |= registered_limits(d4rl / folder / "__init__.py")
    hands = assigned(d4rl / "hand_manipulation_suite" / "__init__.py", "MAX_STEPS")
    for task in TASKS.values():
        family = task.id.partition("-")[0]
        # The MuJoCo v2 tasks are registered in a loop, under the id `env_name`.
        key = "env_name" if task.reward_transform == "scale_by_return_range" else task.id
        expected = hands[family] if family in hands else limits[key]
        assert task.max_episode_steps == expected, task.id


def test_the_tasks_of_the_paper_are_there() -> None:
    bodies, data = ("halfcheetah", "hopper", "walker2d"), ("random", "medium", "medium-replay")
    mazes = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play")
    paper = {f"antmaze-{maze}-v2" for maze in (*mazes, "large-diverse")}
    paper |= {f"{body}-{kind}-v2" for body in bodies for kind in (*data, "medium-expert", "expert")}
    hands, kinds = ("pen", "door", "hammer", "relocate"), ("human", "cloned", "expert")
    adroit = {f"{hand}-{kind}-v1" for hand in hands for kind in kinds}
    runnable = {task.id for task in RUNNABLE}
    assert paper | adroit <= runnable
    assert all(task in runnable for task in TASKS if task.startswith("maze2d"))


@pytest.mark.parametrize("task", RUNNABLE, ids=ids)
def test_the_environment_fits_the_data(task: D4RLTask) -> None:
    assert task.env is not None
    spec = env_spec(task.env, task.env_kwargs)
    assert spec.max_episode_steps == task.max_episode_steps
    assert (spec.obs_dim, spec.action_dim) == SIZES[task.id.partition("-")[0]]
    assert spec.action_low == (-1.0,) * spec.action_dim
    assert spec.action_high == (1.0,) * spec.action_dim
    assert score_reference(task.env) is task.reference


@pytest.mark.parametrize(
    ("name", "transform", "episodes", "settings"),
    [
        ("antmaze-large-play-v2", "subtract_one", 100, (0.9, 10, 10)),
        ("walker2d-medium-replay-v2", "scale_by_return_range", 10, (0.7, 3, 3)),
        ("relocate-human-v1", "identity", 10, (0.7, 0.5, 3)),
        ("maze2d-medium-v1", "identity", 10, (0.7, 3, 3)),
        ("kitchen-mixed-v0", "identity", 10, (0.7, 0.5, 3)),
    ],
)
def test_settings_are_the_papers(
    name: str, transform: str, episodes: int, settings: tuple[float, float, float]
) -> None:
    family = name.partition("-")[0]
    for task in TASKS.values():
        if task.id.partition("-")[0] == family:
            assert (task.reward_transform, task.episodes) == (transform, episodes)
            assert (task.expectile, task.beta, task.inv_temperature) == settings


def test_a_task_without_an_environment_says_what_to_do() -> None:
    for task in TASKS.values():
        assert task.env or "--data.env MODULE:ID" in task.note


def test_checksums_are_whole() -> None:
    known = [task for task in TASKS.values() if task.sha256 is not None]
    assert len(known) >= 30
    for task in known:
        assert len(task.sha256 or "") == 64
        assert (task.size or 0) > 1_000_000


@pytest.mark.parametrize("name", ["hopper-medium-v2", "walker2d-medium-v2"])
def test_the_last_step_is_rewarded_as_in_gyms_v2(name: str) -> None:
    env = make_env(TASKS[name].env or "")
    env.reset(seed=0)
    body = env.unwrapped
    assert isinstance(body, gymnasium.envs.mujoco.MujocoEnv)
    qpos = body.init_qpos.copy()
    qpos[1] = 0.3  # fallen
    body.set_state(qpos, np.zeros_like(body.init_qvel))
    before = body.data.qpos[0]
    _, reward, terminated, _, _ = env.step(np.zeros(env.action_space.shape, np.float32))
    speed = (body.data.qpos[0] - before) / body.dt
    assert terminated
    assert reward == pytest.approx(speed + 1.0)


def test_walker2ds_feet_have_the_friction_of_gyms_v2() -> None:
    model = make_env(TASKS["walker2d-expert-v2"].env or "").unwrapped.model
    feet = [model.geom(name).friction[0] for name in ("foot_geom", "foot_left_geom")]
    assert feet == [0.9, 1.9]


def test_a_task_is_found_by_its_exact_id() -> None:
    assert find_task("antmaze-umaze-v2") is TASKS["antmaze-umaze-v2"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("antmaze-umaze", "without a version; there is antmaze-umaze-v2"),
        ("antmaze-umaze", "pex-lightning data make antmaze-umaze records similar data"),
        ("hopper-medium-v0", "of version v0; there is hopper-medium-v2"),
        ("hoper-medium-v2", "nearest are hopper-medium-v2"),
        ("zzz", "pex-lightning data list"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        find_task(name, RECIPES)
    assert words in str(caught.value)
    assert repr(name) in str(caught.value)


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, pex_lightning.d4rl.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
