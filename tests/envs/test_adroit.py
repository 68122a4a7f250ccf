"""Adroit is gymnasium-robotics' hand with D4RL's rewards and ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.envs import make_env

SHARED = Path(os.environ.get("PEX_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
DEMONSTRATIONS = SHARED / "data" / "door-human.hdf5"


def length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))


def pen_reward(o: np.ndarray, body: Any) -> float:
    distance, likeness = length(o[39:42]), float(o[33:36] @ o[36:39])
    bonus = 0.0 if distance >= 0.075 else 10.0 * (likeness > 0.9) + 50.0 * (likeness > 0.95)
    return likeness - distance + bonus - 5.0 * (o[26] < 0.075)


def door_reward(o: np.ndarray, body: Any) -> float:
    hinge = o[28]
    bonus = 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35)
    speed = 1e-5 * np.sum(body.data.qvel**2)
    return -0.1 * length(o[35:38]) - 0.1 * (hinge - 1.57) ** 2 - speed + bonus


def hammer_reward(o: np.ndarray, body: Any) -> float:
    palm, hammer, nail = o[33:36], o[36:39], o[42:45]
    head, goal = body.data.site("tool").xpos, body.data.site("nail_goal").xpos
    left = length(nail - goal)
    bonus = (
        2.0 * (hammer[2] > 0.04 and head[2] > 0.04) + 25.0 * (left < 0.02) + 75.0 * (left < 0.01)
    )
    speed = 0.01 * length(body.data.qvel)
    return -0.1 * length(palm - hammer) - length(head - nail) - 10.0 * left - speed + bonus


def relocate_reward(o: np.ndarray, body: Any) -> float:
    to_ball, to_target, left = length(o[30:33]), length(o[33:36]), length(o[36:39])
    lifted = body.data.body("Object").xpos[2] > 0.04
    carried = 1.0 - 0.5 * to_target - 0.5 * left if lifted else 0.0
    return -0.1 * to_ball + carried + 10.0 * (left < 0.1) + 20.0 * (left < 0.05)


REWARDS = {
    "Pen": pen_reward,
    "Door": door_reward,
    "Hammer": hammer_reward,
    "Relocate": relocate_reward,
}


@pytest.mark.parametrize("task", REWARDS)
def test_the_reward_is_d4rls_formula_of_the_observation(task: str) -> None:
    env = make_env(f"pex_lightning/Adroit{task}-v1")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    rewards = []
    for _ in range(150):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(REWARDS[task](observation, env.unwrapped), abs=1e-5)
        rewards.append(reward)
        if terminated or truncated:
            env.reset()
    assert np.std(rewards) > 1e-3


@pytest.mark.parametrize("task", ["Door", "Hammer"])
def test_a_random_policy_scores_0(task: str) -> None:
    env_id = f"pex_lightning/Adroit{task}-v1"
    env, reference = make_env(env_id), score_reference(env_id)
    assert reference is not None
    rng = np.random.default_rng(0)
    returns = []
    for seed in range(5):
        env.reset(seed=seed)
        actions = rng.uniform(-1, 1, (200, *env.action_space.shape)).astype(np.float32)
        returns.append(sum(float(env.step(action)[1]) for action in actions))
    # With gymnasium-robotics' rewards it is 0.36 in door and 0.06 in hammer.
    assert abs(reference.score(float(np.mean(returns)))) < 0.045


def test_dropping_the_pen_ends_the_episode() -> None:
    env = make_env("pex_lightning/AdroitPen-v1")
    rng = np.random.default_rng(0)
    dropped = 0
    for seed in range(5):
        env.reset(seed=seed)
        terminated = truncated = False
        heights = []
        while not (terminated or truncated):
            action = rng.uniform(-1, 1, 24).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            heights.append(observation[26])
        assert terminated == (heights[-1] < 0.075)
        assert min(heights[:-1]) >= 0.075
        assert len(heights) <= 100
        if terminated:
            dropped += 1
            assert reward < -4
    assert dropped > 0


@pytest.mark.parametrize(("task", "limit"), [("Door", 200), ("Hammer", 200), ("Relocate", 200)])
def test_the_others_end_with_the_time(task: str, limit: int) -> None:
    env = make_env(f"pex_lightning/Adroit{task}-v1")
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(action)[2:4] for _ in range(limit)]
    assert ends == [(False, False)] * (limit - 1) + [(False, True)]


def test_arguments_reach_the_environment() -> None:
    env = make_env("pex_lightning/AdroitDoor-v1", {"max_episode_steps": 3})
    env.reset(seed=0)
    action = np.zeros(28, np.float32)
    assert [env.step(action)[3] for _ in range(3)] == [False, False, True]
    assert env.step(action)[4]["success"] is False


def test_it_replays_what_was_demonstrated() -> None:
    if not DEMONSTRATIONS.is_file():
        pytest.skip(f"needs the demonstrations {DEMONSTRATIONS}; set PEX_SHARED to their folder")
    with h5py.File(DEMONSTRATIONS) as file:
        keys = ("observations", "actions", "rewards")
        observations, actions, rewards = (file[key][:2000] for key in keys)
        firsts = np.append(0, np.flatnonzero(file["timeouts"][:2000])[:5] + 1)
    env = make_env("pex_lightning/AdroitDoor-v1")
    for first in firsts:
        env.reset(seed=0)
        _put(env.unwrapped, observations[first])
        # The velocities of the first row are not recorded; contacts amplify that later on.
        for row in range(first, first + 40):
            observation, reward, *_ = env.step(actions[row])
            assert reward == pytest.approx(rewards[row], abs=1e-3)
        np.testing.assert_allclose(observation, observations[first + 40], atol=5e-3)


def _put(body: Any, observation: np.ndarray) -> None:
    """Give the door its place and the hand its pose, from an observation; all at rest."""
    qpos = np.zeros(30)
    qpos[1:28], qpos[28], qpos[29] = observation[:27], observation[28], observation[27]
    body.set_state(qpos, np.zeros(30))
    body.model.body("frame").pos += observation[32:35] - body.data.site("S_handle").xpos
    # The hand's slide along y is not observed; the palm's place tells it.
    for _ in range(5):
        body.set_state(qpos, np.zeros(30))
        qpos[0] += observation[30] - body.data.site("S_grasp").xpos[1]
    body.set_state(qpos, np.zeros(30))
