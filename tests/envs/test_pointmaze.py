"""PointMaze is gymnasium-robotics' point mass with one goal, and keeps gymnasium's rules."""

import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from pex_lightning.envs import make_env
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.errors import UserError


@pytest.fixture
def env() -> Iterator[PointMazeEnv]:
    made = PointMazeEnv("medium")
    yield made
    made.close()


@pytest.mark.parametrize("maze", ["UMaze", "Medium", "Large"])
def test_gymnasium_accepts_it(maze):
    env = gymnasium.make(f"pex_lightning/PointMaze-{maze}-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*observation space m.* value is -?infinity")
        check_env(env.unwrapped, skip_render_check=True)


def test_a_step_is_five_of_gymnasium_robotics(env):
    robotics = make_env("PointMaze_Medium-v3", {"continuing_task": False}).unwrapped.point_env
    env.reset(seed=0)
    robotics.reset(seed=0)
    # Their start cell lies elsewhere: this one shifts their coordinates to ours, y upside down.
    shift, flip = np.array([-2.5, 2.5]), np.array([1, -1])
    ours = np.array([0.1, 0.2])
    env.set_state(ours, np.zeros(2))
    robotics.set_state(ours * flip + shift, np.zeros(2))
    speeds = []
    for action in np.random.default_rng(0).uniform(-1, 1, (100, 2)).repeat(8, axis=0):
        observation = env.step(action)[0]
        for _ in range(5):
            theirs = robotics.step(action * flip)[0]
        np.testing.assert_allclose(observation[:2], (theirs[:2] - shift) * flip, atol=1e-4)
        np.testing.assert_allclose(observation[2:], theirs[2:] * flip, atol=1e-3)
        speeds.append(np.abs(observation[2:]).max())
    assert max(speeds) > 4


def test_observation_is_position_and_velocity(env):
    assert env.observation_space.shape == (4,)
    assert env.observation_space.dtype == np.float32
    env.set_state(np.array([0.1, 0.2]), np.array([1.0, 0.0]))
    observation = env.step(np.array([1.0, 0.0]))[0]
    assert observation[0] > 0.1
    assert observation[2] > 1.0
    assert observation[1] == pytest.approx(0.2)
    assert env.dt == pytest.approx(0.05)


def test_start_and_goal_vary_a_little(env):
    env.reset(seed=0)
    episodes = [env.reset() for _ in range(200)]
    starts = np.array([observation for observation, _ in episodes])
    np.testing.assert_array_equal(starts[:, 2:], 0)
    offsets = np.array([info["goal"] for _, info in episodes]) - 5.0
    for noise, limit in ((starts[:, :2], 0.25), (offsets, 0.4)):
        assert 0.95 * limit < np.abs(noise).max() <= limit
        assert len(np.unique(noise, axis=0)) == 200


def test_the_goal_can_be_fixed():
    env = make_env("pex_lightning/PointMaze-UMaze-v0", {"goal_noise": 0.0})
    np.testing.assert_array_equal([env.reset()[1]["goal"] for _ in range(3)], [[0.0, 2.0]] * 3)


def test_a_seed_fixes_the_episode(env):
    first = env.reset(seed=5)[0]
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)
    assert not np.array_equal(env.reset(seed=6)[0], first)


def test_reaching_the_goal_terminates_with_reward_1(env):
    env.reset(seed=0, options={"goal_xy": [5.0, 5.0]})
    for x, reached in [(4.45, False), (4.55, True)]:
        env.set_state(np.array([x, 5.0]), np.zeros(2))
        _, reward, terminated, truncated, info = env.step(np.zeros(2))
        assert (reward, terminated, truncated) == (float(reached), reached, False)
        assert info["success"] is reached


def test_walls_stop_the_point(env):
    env.reset(seed=0)
    env.set_state(np.zeros(2), np.zeros(2))
    positions = [env.step(np.array([-1.0, 0.0]))[0][0] for _ in range(40)]
    assert min(positions) == pytest.approx(-0.4, abs=0.03)  # the wall's face less the radius


def test_actions_are_clipped_and_must_be_finite(env):
    env.set_state(np.zeros(2), np.zeros(2))
    expected = env.step(np.array([1.0, 0.0]))[0]
    env.set_state(np.zeros(2), np.zeros(2))
    np.testing.assert_array_equal(env.step(np.array([9.0, 0.0]))[0], expected)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([np.nan, 0.0]))


def test_the_time_limit_truncates():
    env = make_env("pex_lightning/PointMaze-Medium-v0")
    env.reset(seed=0)
    action = np.zeros(2, np.float32)
    ends = [env.step(action)[2:4] for _ in range(300)]
    assert ends == [(False, False)] * 299 + [(False, True)]


def test_an_unknown_maze_is_refused():
    with pytest.raises(UserError, match=r"'huge'.*umaze, medium, large"):
        PointMazeEnv("huge")
