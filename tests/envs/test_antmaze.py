"""AntMaze is the one that D4RL recorded with, and keeps gymnasium's rules."""

import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from pex_lightning.envs import make_env
from pex_lightning.envs.antmaze import AntMazeEnv
from pex_lightning.errors import UserError

SHARED = Path(os.environ.get("PEX_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
STATES = SHARED / "data" / "antmaze-umaze-states.hdf5"


@pytest.fixture
def env() -> Iterator[AntMazeEnv]:
    made = AntMazeEnv("umaze")
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    if not STATES.is_file():
        pytest.skip(f"needs the recorded states {STATES}; set PEX_SHARED to their folder")
    with h5py.File(STATES) as file:
        keys = ("observations", "actions", "timeouts", "infos/qpos", "infos/qvel")
        # Row 4617 touches the floor so barely that the float32 rounding of the file decides it.
        return {key: file[key][:4000] for key in keys}


def replay_error(env: AntMazeEnv, recorded: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """Largest absolute error of the next observation, for every row, `[rows]`."""
    errors = np.zeros(len(rows))
    for k, i in enumerate(rows):
        env.set_state(recorded["infos/qpos"][i], recorded["infos/qvel"][i])
        observation = env.step(recorded["actions"][i])[0]
        errors[k] = np.abs(observation - recorded["observations"][i + 1]).max()
    return errors


def test_it_replays_what_d4rl_recorded(env, recorded):
    rows = np.flatnonzero(~recorded["timeouts"][:-1])
    assert len(rows) > 3900
    assert replay_error(env, recorded, rows).max() <= 1e-5


def test_the_replay_notices_a_missing_wall(env, recorded):
    rows = np.flatnonzero(~recorded["timeouts"][:-1])
    walls = [i for i in range(env.model.ngeom) if env.model.geom(i).name.startswith("wall_")]
    env.model.geom_contype[walls] = 0
    env.model.geom_conaffinity[walls] = 0
    assert replay_error(env, recorded, rows[:1500]).max() > 1e-2


@pytest.mark.parametrize(("maze", "steps"), [("UMaze", 700), ("Medium", 1000), ("Large", 1000)])
def test_gymnasium_accepts_it(maze, steps):
    env = gymnasium.make(f"pex_lightning/AntMaze-{maze}-v0")
    assert env.spec.max_episode_steps == steps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*observation space m.* value is -?infinity")
        check_env(env.unwrapped, skip_render_check=True)


def test_model_has_d4rls_constants(env):
    assert env.observation_space.shape == (29,)
    assert env.dt == pytest.approx(0.1)
    assert env.model.opt.timestep == pytest.approx(0.02)
    np.testing.assert_array_equal(env.model.actuator_ctrlrange, [[-30, 30]] * 8)
    np.testing.assert_array_equal(env.model.actuator_gear[:, 0], np.ones(8))
    floor = env.model.geom("floor").id
    np.testing.assert_allclose(env.model.geom_solimp[floor][:3], [0.8, 0.8, 0.01])


def test_actions_become_torques_and_are_clipped(env):
    env.reset(seed=0)
    env.step(np.array([0.5, -0.5, 1, -1, 0, 0, 3, -3], np.float32))
    np.testing.assert_allclose(env.data.ctrl, [15, -15, 30, -30, 0, 0, 30, -30])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused(env, bad):
    env.reset(seed=0)
    before = env.data.qpos.copy()
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(8, bad))
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(7))
    np.testing.assert_array_equal(env.data.qpos, before)


def rollout(env: gymnasium.Env, seed: int, steps: int = 30) -> np.ndarray:
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 8))
    first, info = env.reset(seed=seed)
    rows = [first, *(env.step(action)[0] for action in actions)]
    return np.append(np.concatenate(rows), info["goal"])


def test_a_seed_fixes_the_episode(env):
    other = pickle.loads(pickle.dumps(env))
    expected = rollout(env, 3)
    np.testing.assert_array_equal(expected, rollout(other, 3))
    np.testing.assert_array_equal(expected, rollout(env, 3))
    assert np.abs(expected - rollout(env, 4)).max() > 1e-3


def test_set_state_leaves_nothing_of_what_was_before(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log where it runs
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 8))
    for action in actions:  # until the ant stands on the floor
        env.step(action)
    assert env.data.ncon > 0
    qpos, qvel = env.data.qpos.copy(), env.data.qvel.copy()
    env.set_state(qpos, qvel)
    expected = [env.step(action)[0] for action in actions]
    env.data.qvel[:] = 1e11
    assert "physics_error" in env.step(actions[0])[4]
    env.set_state(qpos, qvel)
    np.testing.assert_array_equal([env.step(action)[0] for action in actions], expected)


def test_the_goal_is_drawn_afresh_around_the_goal_cell(env):
    env.reset(seed=0)
    goals = np.array([env.reset()[1]["goal"] for _ in range(300)])
    offsets = goals - env.maze.to_xy(env.maze.goal_cell)
    assert len(np.unique(goals, axis=0)) == 300
    np.testing.assert_array_equal(goals[-1], env.goal)
    assert offsets.min() >= 0
    assert 1.2 < offsets.max() <= 1.5
    np.testing.assert_allclose(offsets.mean(0), 0.75, atol=0.08)


def test_start_states_have_d4rls_noise(env):
    env.reset(seed=0)
    starts = np.array([env.reset()[0] for _ in range(300)])
    positions, velocities = starts[:, :15] - env.init_qpos, starts[:, 15:]
    assert np.abs(positions).max() <= 0.1 + 1e-6
    np.testing.assert_allclose(positions.std(0), 0.2 / np.sqrt(12), atol=0.01)
    np.testing.assert_allclose(velocities.std(0), 0.1, atol=0.02)
    np.testing.assert_allclose(env.init_qpos[:3], [0, 0, 0.75])


def test_reaching_the_goal_terminates_with_reward_1(env):
    env.reset(seed=0, options={"goal_xy": [0.0, 1.0]})
    still = np.zeros(8)
    qpos = env.init_qpos.copy()
    for distance, reached in [(0.6, False), (0.4, True)]:
        qpos[:2] = [0.0, 1.0 - distance]
        env.set_state(qpos, np.zeros(14))
        _, reward, terminated, truncated, info = env.step(still)
        assert (reward, terminated, truncated) == (float(reached), reached, False)
        assert info["success"] is reached


def test_options_place_goal_and_start(env):
    goal = [8.0, 4.0]
    observation, info = env.reset(seed=1, options={"goal_xy": goal, "start_xy": [4.0, 0.0]})
    np.testing.assert_array_equal(info["goal"], goal)
    np.testing.assert_allclose(observation[:2], [4, 0], atol=0.1 + 1e-6)
    _, info = env.reset()
    assert np.abs(info["goal"] - goal).max() > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"goal": [0, 0]}, "goal_xy, start_xy"),
        ({"goal_xy": [0, 4]}, "wall"),
        ({"start_xy": [400, 0]}, "outside"),
        ({"start_xy": "here"}, "two finite metres"),
        ({"start_xy": [np.nan, 0]}, "two finite metres"),
    ],
)
def test_wrong_options_are_refused(env, options, words):
    with pytest.raises(UserError, match=words):
        env.reset(options=options)


def test_walls_stop_the_ant(env):
    env.reset(seed=0)
    qpos, qvel = env.init_qpos.copy(), np.zeros(14)
    qpos[2], qvel[1] = 0.6, 6.0
    env.set_state(qpos, qvel)
    reached = max(env.step(np.zeros(8))[0][1] for _ in range(40))
    assert 0.5 < reached < 2.0  # the wall's face is at y = 2


def test_a_simulation_that_blows_up_ends_the_episode(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log where it runs
    env.reset(seed=0)
    before = env.step(np.zeros(8))[0]
    env.data.qvel[:] = 1e11
    observation, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info == {"success": False, "physics_error": True}
    np.testing.assert_array_equal(observation, before)
    env.reset()
    assert env.step(np.zeros(8))[4] == {"success": False}


def test_the_time_limit_truncates():
    env = make_env("pex_lightning/AntMaze-UMaze-v0", {"max_episode_steps": 3})
    env.reset(seed=0)
    ends = [env.step(np.zeros(8, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
