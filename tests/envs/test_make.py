"""make_env: one shape of environment for all, and plain words for those that do not fit."""

import subprocess
import sys
import textwrap
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pex_lightning.envs import EnvSpec, env_spec, make_env, register_envs
from pex_lightning.errors import UserError

UMAZE = [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]]


MOST = np.finfo(np.float32).max


class Toy(gymnasium.Env):
    """An environment with the spaces and the info that a test asks for."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, case: str = "plain") -> None:
        bounded = spaces.Box(-2, 2, (3,), np.float64)
        self.case = case
        self.observation_space = {
            "discrete-obs": spaces.Discrete(3),
            "dict-discrete": spaces.Dict(a=spaces.Discrete(3)),
            "dict": spaces.Dict(b=spaces.Box(0, 1, (2, 2)), a=spaces.Box(3, 4, (1,))),
        }.get(case, spaces.Box(-1, 1, (2,), np.float64))
        self.action_space = {
            "discrete": spaces.Discrete(2),
            "integers": spaces.Box(0, 3, (2,), np.int64),
            "unbounded": spaces.Box(-1, np.inf, (2,)),
            "no bounds": spaces.Box(-MOST, MOST, (2,)),
            "fixed": spaces.Box(np.float32([-1, 2]), np.float32([1, 2])),
            "matrix": spaces.Box(-1, 1, (2, 2)),
        }.get(case, bounded)
        if case == "refuses":
            raise ValueError("no such case")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert action.dtype == self.action_space.dtype
        infos = {"is_success": np.float32(1), "success": np.float64(0)}
        info = {self.case: infos[self.case]} if self.case in infos else {}
        return self.observation_space.sample(), np.float64(1), np.bool_(False), False, info


@pytest.fixture(autouse=True, scope="module")
def toys():
    gymnasium.register("pex-test/Toy-v0", entry_point=Toy, max_episode_steps=9)
    gymnasium.register("pex-test/Endless-v0", entry_point=Toy)
    yield
    for name in ("pex-test/Toy-v0", "pex-test/Endless-v0"):
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("env_id", "obs_dim", "action_dim"),
    [
        ("pex_lightning/AntMaze-UMaze-v0", 29, 8),
        ("pex_lightning/PointMaze-Medium-v0", 4, 2),
        ("HalfCheetah-v5", 17, 6),
        ("AdroitHandDoor-v1", 39, 28),
        ("pex-test/Toy-v0", 2, 3),
    ],
)
def test_every_environment_comes_out_flat_and_float32(env_id, obs_dim, action_dim):
    env, spec = make_env(env_id), env_spec(env_id)
    assert (spec.id, spec.obs_dim, spec.action_dim) == (env_id, obs_dim, action_dim)
    assert spec.max_episode_steps == env.spec.max_episode_steps
    assert spec.action_high == tuple(env.action_space.high)
    assert spec.action_low == tuple(env.action_space.low)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    action = env.action_space.sample()
    next_observation, reward, terminated, truncated, _ = env.step(action)
    assert action.dtype == np.float32
    assert type(reward) is float
    assert type(terminated) is type(truncated) is bool
    for array in (observation, next_observation):
        assert array.shape == (obs_dim,)
        assert array.dtype == np.float32
        assert env.observation_space.contains(array)
    env.close()


def test_a_dict_is_concatenated_by_sorted_key():
    env = make_env("pex-test/Toy-v0", {"case": "dict"})
    assert env_spec("pex-test/Toy-v0", {"case": "dict"}).obs_keys == ("a", "b")
    np.testing.assert_array_equal(env.observation_space.low, [3, 0, 0, 0, 0])
    np.testing.assert_array_equal(env.observation_space.high, [4, 1, 1, 1, 1])
    observation = env.reset(seed=0)[0]
    assert observation[0] >= 3
    assert observation[1:].max() <= 1


def test_the_goal_of_a_maze_is_kept_only_if_it_varies():
    fixed: dict[str, Any] = {"continuing_task": False, "maze_map": UMAZE}
    one, many = env_spec("AntMaze_UMaze-v5", fixed), env_spec("AntMaze_UMaze-v5")
    assert one.obs_keys == ("achieved_goal", "observation")
    assert many.obs_keys == ("achieved_goal", "observation", "desired_goal")
    assert many.obs_dim == one.obs_dim + 2 == 109
    env = make_env("AntMaze_UMaze-v5", fixed)
    observation = env.reset(seed=0)[0]
    np.testing.assert_allclose(observation[:2], env.unwrapped.data.qpos[:2], rtol=1e-6)
    np.testing.assert_allclose(observation[2:15], env.unwrapped.data.qpos[2:], rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "expected"), [("is_success", True), ("success", False), ("plain", None)]
)
def test_success_is_a_bool_or_absent(case, expected):
    env = make_env("pex-test/Toy-v0", {"case": case})
    env.reset(seed=0)
    info = env.step(np.zeros(3, np.float32))[4]
    assert info.get("success") is expected


def test_max_episode_steps_can_be_given():
    assert env_spec("pex-test/Endless-v0", {"max_episode_steps": 7}).max_episode_steps == 7
    kwargs = {"max_episode_steps": 5}
    spec = env_spec("pex_lightning/AntMaze-UMaze-v0", kwargs)
    assert isinstance(spec, EnvSpec)
    assert (spec.max_episode_steps, spec.kwargs) == (5, kwargs)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("antmaze-umaze-v2", None, ["closest ids: pex_lightning/AntMaze-UMaze-v0"]),
        ("HalfCheeta-v5", None, ["'HalfCheeta-v5'", "HalfCheetah-v5", "PointMaze-Large-v0"]),
        ("AntMaze_UMaze-v9", None, ["AntMaze_UMaze-v5"]),
        ("no_such_module:Toy-v0", None, ["no module 'no_such_module'"]),
        ("HalfCheetah-v2", None, ["HalfCheetah-v2", "mujoco"]),
        ("CartPole-v1", None, ["Discrete(2)", "continuous"]),
        ("pex-test/Toy-v0", {"case": "integers"}, ["int64", "continuous"]),
        ("pex-test/Toy-v0", {"case": "unbounded"}, ["inf", "finite bounds"]),
        ("pex-test/Toy-v0", {"case": "no bounds"}, ["3.4028235e+38", "finite bounds"]),
        ("pex-test/Toy-v0", {"case": "fixed"}, ["number 1 of its actions", "lower bound 2"]),
        ("pex-test/Toy-v0", {"case": "matrix"}, ["(2, 2)", "one dimension"]),
        ("pex-test/Toy-v0", {"case": "discrete-obs"}, ["Discrete(3)", "expected a Box"]),
        ("pex-test/Toy-v0", {"case": "dict-discrete"}, ["found a in", "Discrete(3)"]),
        ("pex-test/Endless-v0", None, ["no time limit", "max_episode_steps"]),
        ("pex-test/Toy-v0", {"cse": "dict"}, ["'cse'", "did you mean 'case'"]),
        ("HalfCheetah-v5", {"ctrl_cost_wieght": 1}, ["did you mean 'ctrl_cost_weight'"]),
        ("pex-test/Toy-v0", {"case": "refuses"}, ["'refuses'", "no such case"]),
        ("pex-test/Toy-v0", {"case": object()}, ["object", "expected numbers"]),
        ("pex-test/Toy-v0", ["case"], ["['case']", "a mapping"]),
        ("pex_lightning/AntMaze-UMaze-v0", {"maze": "huge"}, ["'huge'", "umaze, medium, large"]),
        ("HalfCheetah-v5", {"render_mode": "rgb"}, ["'rgb'", "rgb_array"]),
    ],
)
def test_what_cannot_be_used_is_refused_in_plain_words(env_id, kwargs, words):
    with pytest.raises(UserError) as caught:
        make_env(env_id, kwargs)
    for word in words:
        assert word in str(caught.value)


def test_registering_twice_changes_nothing(recwarn):
    before = gymnasium.registry["pex_lightning/AntMaze-UMaze-v0"]
    register_envs()
    assert gymnasium.registry["pex_lightning/AntMaze-UMaze-v0"] is before
    assert not recwarn


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "default", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_fresh_process_finds_robotics_environments_in_silence():
    done = run_fresh(
        """
        import sys
        from pex_lightning.envs import make_env
        make_env("pex_lightning/PointMaze-Medium-v0").reset(seed=0)
        assert "gymnasium_robotics" not in sys.modules
        make_env("HalfCheetah-v4").reset(seed=0)
        make_env("AdroitHandDoor-v1").reset(seed=0)
        assert "torch" not in sys.modules
        """
    )
    assert done.stdout == done.stderr == ""


def test_gymnasium_finds_ours_through_the_module():
    done = run_fresh(
        """
        import gymnasium
        env = gymnasium.make("pex_lightning.envs:pex_lightning/AntMaze-Large-v0")
        print(env.spec.id, env.spec.max_episode_steps)
        """
    )
    assert done.stdout.split() == ["pex_lightning/AntMaze-Large-v0", "1000"]
