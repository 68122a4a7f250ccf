"""A tiny environment whose episodes differ in length; worker processes import this module."""

import os
import signal
import sys
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

ENV_ID = "PexToy-v0"
Observation = npt.NDArray[np.float32]


class ToyEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """Observes (level, step): a level drawn at reset and the step. Reward: 1 + level * action.

    An episode lasts 1 to 20 steps, drawn at reset, and succeeds where its level is above 0.5.

    Args:
        reports_success: Whether info says so.
        raises_at: Seed of the episode whose second step raises.
        dies_at: Seed of the episode whose reset kills the process.
        length: Steps of every episode, instead of the drawn number.
    """

    def __init__(
        self,
        reports_success: bool = False,
        raises_at: int = -1,
        dies_at: int = -1,
        length: int = 0,
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.reports_success = reports_success
        self.raises_at, self.dies_at, self.length = raises_at, dies_at, length
        self.seed = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seed = -1 if seed is None else seed
        self.level = float(self.np_random.uniform())
        self.steps, self.last = 0, self.length or int(self.np_random.integers(1, 21))
        return self._observe(), {"success": True}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        assert self.steps < self.last, "stepped after the episode's end"
        self.steps += 1
        if self.seed == self.raises_at and self.steps == 2:
            raise ValueError("the toy broke")
        over = self.steps == self.last
        info = {"success": self.level > 0.5 and self.steps == 1} if self.reports_success else {}
        terminated = over and self.level > 0.5
        reward = 1.0 + self.level * float(action[0])
        return self._observe(), reward, terminated, over and not terminated, info

    def _observe(self) -> Observation:
        return np.array([self.level, self.steps], dtype=np.float32)


class TorchWatchingEnv(ToyEnv):
    """Rewards 1 per step if the process has torch, else 0."""

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float("torch" in sys.modules), terminated, truncated, info
