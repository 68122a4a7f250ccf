"""An environment and actors for collectors' processes, which import this module."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from pex_lightning.policies.acting import ActingPolicy, Choice
from pex_lightning.policies.composite import CompositePolicy

ENV_ID = "PexCollecting-v0"
TIME_LIMIT = 5
STAMP_SCALE = 1000


class CollectingEnv(gymnasium.Env[Any, Any]):
    """Observes (step / 10, a number drawn at reset, last action's first number).

    Args:
        raises_at: Step of the first episode that raises.
        dies_at: Step of the first episode that kills the process.
        unmakeable: Whether the constructor raises.
    """

    def __init__(self, raises_at: int = -1, dies_at: int = -1, unmakeable: bool = False) -> None:
        if unmakeable:
            raise RuntimeError("no licence")
        self.observation_space = gymnasium.spaces.Box(-100, 100, (3,), np.float32)
        low, high = np.float32([-1.0, -0.5]), np.float32([1.0, 2.0])
        self.action_space = gymnasium.spaces.Box(low, high)
        self.raises_at, self.dies_at = raises_at, dies_at

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.last, self.drawn = 0, 0.0, float(self.np_random.uniform())
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps, self.last = self.steps + 1, float(action[0])
        if self.steps == self.raises_at:
            raise ValueError("the toy broke")
        if self.steps == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._observe(), float(self.steps), False, False, {}

    def _observe(self) -> Any:
        return np.array([self.steps / 10, self.drawn, self.last], np.float32)


class Level(ActingPolicy):
    """Acts by a weight, with noise of torch's generator in the second dimension."""

    def __init__(self) -> None:
        super().__init__(("level",))
        self.module = nn.Linear(1, 1)
        self.set(0.0)

    def set(self, level: float) -> None:
        with torch.no_grad():
            self.module.bias.fill_(level)

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        action = torch.stack((self.module.bias, torch.rand(1)), dim=-1)
        return Choice(action, torch.zeros(1, dtype=torch.int64), torch.ones(1, 1), memory)

    def evaluation_action(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        raise NotImplementedError


class Stamped(ActingPolicy):
    """PEX's acting policy, which says in `choice_probs` after which update it acted.

    It reads the update off π_θ's admission, which rises by a thousandth with each.
    """

    def __init__(self, policy: CompositePolicy) -> None:
        super().__init__(policy.members)
        self.policy = policy

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        share = self.policy.rule.share
        choice = self.policy.act(observation, memory)
        return choice._replace(choice_probs=torch.stack((share, 1 - share))[None])

    def evaluation_action(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        return self.policy.evaluation_action(observation, memory)


class Clock(ActingPolicy):
    """Remembers how many steps of the episode there were, and says so in its action."""

    def __init__(self) -> None:
        super().__init__(("clock",), memory_size=1)

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        action = memory.expand(1, 2) / 10
        return Choice(action, torch.zeros(1, dtype=torch.int64), torch.ones(1, 1), memory + 1)

    def evaluation_action(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        return memory.expand(-1, 2) / 10, memory + 1
