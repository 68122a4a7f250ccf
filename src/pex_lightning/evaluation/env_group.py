"""Several environments in one process, each of which steps, is reset or rests in a round.

Worker processes import this module, so it must not import torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import gymnasium
import numpy as np

from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError


class Command(IntEnum):
    """What one environment does in one round."""

    REST = 0
    STEP = 1
    RESET = 2


@dataclass(frozen=True)
class Orders:
    """The commands of one round for n environments.

    Attributes:
        commands: [n] int8 of `Command`.
        seeds: [n] int64, read for environments that are reset.
        actions: [n, act_dim] float32, read for environments that are stepped.
    """

    commands: np.ndarray
    seeds: np.ndarray
    actions: np.ndarray

    @classmethod
    def rest(cls, size: int) -> Orders:
        """Orders for `size` environments to rest."""
        return cls(np.full(size, Command.REST, np.int8), np.zeros(size, np.int64), np.zeros(size))

    def take(self, rows: np.ndarray) -> Orders:
        """The orders of the environments in `rows` [m]."""
        return Orders(self.commands[rows], self.seeds[rows], self.actions[rows])


@dataclass(frozen=True)
class Frame:
    """The latest outcome of n environments; the rows of resting ones do not change.

    Attributes:
        observation: [n, obs_dim] float32.
        reward: [n] float64; 0 after a reset.
        terminated: [n] bool.
        truncated: [n] bool.
        success: [n] int8: 1 or 0 from `info["success"]`, -1 if the environment did not say.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray

    @classmethod
    def empty(cls, size: int, obs_dim: int) -> Frame:
        """A frame before the first reset."""
        return cls(
            observation=np.zeros((size, obs_dim), dtype=np.float32),
            reward=np.zeros(size, dtype=np.float64),
            terminated=np.zeros(size, dtype=np.bool_),
            truncated=np.zeros(size, dtype=np.bool_),
            success=np.full(size, -1, dtype=np.int8),
        )

    def put(self, rows: np.ndarray, part: Frame) -> None:
        """Overwrite `rows` [m] with a frame of m environments."""
        self.observation[rows] = part.observation
        self.reward[rows] = part.reward
        self.terminated[rows] = part.terminated
        self.truncated[rows] = part.truncated
        self.success[rows] = part.success


@dataclass(frozen=True)
class Sizes:
    """Sizes of one observation and of one action."""

    obs_dim: int
    action_dim: int


class EnvGroup:
    """Environments stepped one after another in this process.

    Args:
        factory: Makes one environment.
        rows: [n] the environments' numbers in the pool; also for error messages.
    """

    def __init__(self, factory: EnvFactory, rows: np.ndarray) -> None:
        self.rows = rows
        self.envs: list[gymnasium.Env[Any, Any]] = []
        self._name = factory.env_id
        self._seeds = np.zeros(len(rows), dtype=np.int64)
        self._steps = np.zeros(len(rows), dtype=np.int64)
        for _ in rows:
            with self._named(len(self.envs), "being made"):
                self.envs.append(factory())
        observation, action = self.envs[0].observation_space, self.envs[0].action_space
        assert observation.shape is not None
        assert action.shape is not None
        self.sizes = Sizes(observation.shape[0], action.shape[0])
        self._frame = Frame.empty(len(rows), self.sizes.obs_dim)

    def advance(self, orders: Orders) -> Frame:
        """Carry out one round.

        Raises:
            UserError: An environment failed; the message has its number, seed and step.
        """
        for i, command in enumerate(orders.commands):
            if command == Command.RESET:
                self._reset(i, int(orders.seeds[i]))
            elif command == Command.STEP:
                self._step(i, orders.actions[i])
        return self._frame

    __call__ = advance

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            # An error here matters to nobody, and must not keep the others from being closed.
            with contextlib.suppress(Exception):
                env.close()
        self.envs.clear()

    def _reset(self, i: int, seed: int) -> None:
        self._seeds[i], self._steps[i] = seed, 0
        with self._named(i, f"reset with seed {seed}"):
            observation, _ = self.envs[i].reset(seed=seed)
        frame = self._frame
        frame.observation[i] = observation
        frame.reward[i], frame.success[i] = 0.0, -1
        frame.terminated[i] = frame.truncated[i] = False

    def _step(self, i: int, action: np.ndarray) -> None:
        self._steps[i] += 1
        with self._named(i, f"step {self._steps[i]} of the episode with seed {self._seeds[i]}"):
            observation, reward, terminated, truncated, info = self.envs[i].step(action)
        frame = self._frame
        frame.observation[i], frame.reward[i] = observation, reward
        frame.terminated[i], frame.truncated[i] = terminated, truncated
        frame.success[i] = int(bool(info["success"])) if "success" in info else -1

    @contextlib.contextmanager
    def _named(self, i: int, what: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"evaluation: environment {self.rows[i]} ({self._name}) failed at {what}: {reason}"
            ) from error
