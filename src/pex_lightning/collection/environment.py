"""A gymnasium environment for TorchRL's collector, faster than TorchRL's own wrapper."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

_NO, _YES = torch.zeros(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
_NO_END = {"done": _NO, "terminated": _NO, "truncated": _NO}


MEMORY, NEXT_MEMORY = "memory", "next_memory"
"""Keys of a frame: the policy's memory at its state, and the memory for the next state."""


class CollectorEnv(EnvBase):  # type: ignore[misc]
    """Makes an environment of `make_env` give frames in TorchRL's TED layout.

    TorchRL's `GymWrapper` gives the same frames, but spends most of its time on specs, key lists
    and nested copies for environments of any kind. Ours have one observation and one action, so
    the TensorDicts are built directly. Tensors of a frame are not overwritten later; the flags are
    shared between frames, so write into copies only.

    Args:
        env: Has flat float32 observations and bounded float32 actions; `close` closes it too.
        memory_size: Floats that the policy remembers within an episode. If above 0, a state has a
            `memory`: zeros after a reset, otherwise the `next_memory` of the last frame.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], memory_size: int = 0) -> None:
        super().__init__(device=None, batch_size=[])
        # TorchRL takes an environment for closed, and does not close it, until it is told.
        self.is_closed = False
        self._env = env
        self._memory_size = memory_size
        actions = env.action_space
        assert isinstance(actions, spaces.Box)
        self.observation_spec = Composite(observation=Unbounded(env.observation_space.shape))
        self.action_spec = Bounded(torch.from_numpy(actions.low), torch.from_numpy(actions.high))
        self.reward_spec = Unbounded((1,))
        flag = Categorical(2, shape=(1,), dtype=torch.bool)
        self.done_spec = Composite(dict.fromkeys(_NO_END, flag))

    def step_and_maybe_reset(
        self, tensordict: TensorDictBase
    ) -> tuple[TensorDictBase, TensorDictBase]:
        """Add `next` to the frame; return it and the state in which the next frame begins."""
        following = self._step(tensordict)
        tensordict.set("next", following)
        if following.get("done") is _YES:
            return tensordict, self._reset(None)
        memory = tensordict.get(NEXT_MEMORY) if self._memory_size else None
        return tensordict, _state(following.get("observation"), memory)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environment."""
        super().close(raise_if_closed=raise_if_closed)
        self._env.close()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get("action").numpy()
        observation, reward, terminated, truncated, _ = self._env.step(action)
        return TensorDict(
            {
                "observation": torch.from_numpy(observation),
                "reward": torch.from_numpy(np.array([reward], dtype=np.float32)),
                "done": _YES if terminated or truncated else _NO,
                "terminated": _YES if terminated else _NO,
                "truncated": _YES if truncated else _NO,
            }
        )

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        observation, _ = self._env.reset()
        memory = torch.zeros(self._memory_size) if self._memory_size else None
        return _state(torch.from_numpy(observation), memory)

    def _set_seed(self, seed: int | None) -> None:
        # Later resets pass no seed, so that the generator goes on from episode to episode.
        self._env.reset(seed=seed)


def _state(observation: torch.Tensor, memory: torch.Tensor | None) -> TensorDict:
    remembered = {} if memory is None else {MEMORY: memory}
    return TensorDict({"observation": observation, **remembered, **_NO_END})
