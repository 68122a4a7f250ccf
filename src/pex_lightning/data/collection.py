"""A policy in an environment: frames from TorchRL's collector, with who acted in each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper

from pex_lightning.envs.make import make_env
from pex_lightning.policies.policy_set import Choice


class Actor(Protocol):
    """A policy that can collect."""

    def act(self, observation: Tensor) -> Choice:
        """Choose actions for observations ``[B, obs_dim]``."""


class ActorModule(TensorDictModuleBase):  # type: ignore[misc]
    """Lets TorchRL's collector run an actor: writes the action and who proposed it."""

    in_keys = ["observation"]  # noqa: RUF012
    out_keys = ["action", "policy_index", "choice_probs"]  # noqa: RUF012

    def __init__(self, actor: Actor, device: torch.device) -> None:
        super().__init__()
        self._actor = actor
        self._device = device

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act on a single state, ``observation`` ``[obs_dim]``."""
        observation = tensordict.get("observation").to(self._device)
        choice = self._actor.act(observation.unsqueeze(0))
        tensordict.set("action", choice.action[0].to("cpu"))
        tensordict.set("policy_index", choice.policy_index[0].to("cpu"))
        tensordict.set("choice_probs", choice.choice_probs[0].to("cpu"))
        return tensordict


def frames(
    actor: Actor,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    *,
    seed: int,
    device: torch.device,
) -> Iterator[TensorDictBase]:
    """Endless frames, ``[1]`` each, in TED layout.

    The actor's parameters are read in place, so that an update is in effect at the next frame.
    The environment is the iterator's own and starts with a fresh episode.

    Args:
        actor: Chooses the actions.
        env_id: The environment.
        env_kwargs: Its arguments.
        seed: Seed of the environment; the actor draws from torch's global generator.
        device: Where the actor's parameters are.
    """
    env = GymWrapper(make_env(env_id, env_kwargs))
    env.set_seed(seed % 2**31)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        collector = Collector(
            env,
            ActorModule(actor, device),
            frames_per_batch=1,
            total_frames=-1,
            track_traj_ids=False,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )
    try:
        yield from collector
    finally:
        collector.shutdown()
