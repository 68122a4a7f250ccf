"""Environments that break their word are refused with the step, what came and what was promised."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from pex_lightning.envs.make import make_env
from pex_lightning.errors import UserError

ID = "PexBroken-v0"


class Broken(gymnasium.Env[Any, Any]):
    """Gives what it is told to give, from the third step on or at a reset."""

    def __init__(self, dict_space: bool = False, at_reset: bool = False, **given: Any) -> None:
        box = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.observation_space = gymnasium.spaces.Dict({"a": box, "b": box}) if dict_space else box
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.dict_space, self.at_reset, self.given = dict_space, at_reset, given

    def _observation(self, now: bool) -> Any:
        value = np.array(self.given.get("observation", [0.0] * 3)) if now else np.zeros(3)
        if not self.dict_space:
            return value
        return (
            {"a": np.zeros(3)}
            if now and "without" in self.given
            else {"a": np.zeros(3), "b": value}
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(self.at_reset), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.steps += 1
        now = self.steps == 3 and not self.at_reset
        given = self.given if now else {}
        reward = {"big": 1e39, "nan": float("nan"), "low": -float("inf"), "two": [1.0, 2.0]}
        found = reward[given["reward"]] if "reward" in given else 1.0
        ended = [True, False] if given.get("flag") else False
        return self._observation(now), found, ended, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Any:
    gymnasium.register(ID, entry_point=Broken, max_episode_steps=10)
    yield
    gymnasium.registry.pop(ID)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"reward": "nan"}, r"the reward nan at step 3 of an episode"),
        ({"reward": "low"}, r"the reward -inf at step 3"),
        ({"reward": "big"}, r"the reward 1e\+39 at step 3 .*float32"),
        ({"reward": "two"}, r"the reward \[1\.0, 2\.0\] at step 3"),
        ({"observation": [0.0] * 4}, r"an observation of shape \(4,\) at step 3 .*expected \(3,\)"),
        ({"observation": [0.0]}, r"an observation of shape \(1,\)"),
        (
            {"observation": [0.0, float("nan"), 0.0]},
            r"nan as number 1 of the observation",
        ),
        ({"observation": [0.0, 0.0, 1e39]}, r"inf as number 2 of the observation"),
        ({"flag": True}, r"terminated \[True, False\] at step 3"),
        (
            {"dict_space": True, "observation": [0.0] * 2},
            r"an observation of 'b' of shape \(2,\) at step 3",
        ),
        ({"dict_space": True, "without": True}, r"an observation without \['b'\] at step 3"),
    ],
)
def test_a_broken_step_is_named(kwargs: dict[str, Any], says: str) -> None:
    env = make_env(ID, kwargs)
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(UserError, match=rf"environment {ID}: found {says}"):
        env.step(np.zeros(1, np.float32))


@pytest.mark.parametrize("value", [[0.0] * 4, [0.0, float("nan"), 0.0]])
def test_a_broken_reset_is_named(value: list[float]) -> None:
    env = make_env(ID, {"at_reset": True, "observation": value})
    with pytest.raises(UserError, match=rf"environment {ID}: found .* at a reset, expected"):
        env.reset(seed=0)


def test_numbers_of_numpy_are_fine() -> None:
    env = make_env(ID, {"observation": [1.0, 2.0, 3.0]})
    env.reset(seed=0)
    for _ in range(3):
        observation, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert observation.tolist() == [1.0, 2.0, 3.0]
    assert (reward, terminated, truncated) == (1.0, False, False)
