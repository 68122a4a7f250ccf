"""Collection in this process with TorchRL's collector, and the interface of all collections."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector

from pex_lightning.collection.environment import MEMORY, NEXT_MEMORY, CollectorEnv
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.policies.acting import ActingPolicy


class EnvFrames(NamedTuple):
    """Consecutive frames `[F]` of one environment, in TED layout with raw rewards."""

    environment: int
    frames: TensorDictBase


class Collection(Protocol):
    """Collects frames, in this process or in others."""

    def request(self, count: int) -> int:
        """Begin to collect frames for the next `collect`, with the present weights.

        Returns:
            The number of frames that are being collected, which the next `collect` has to ask
            for; 0 if nothing is collected ahead.
        """

    def collect(self, count: int) -> list[EnvFrames]:
        """Return `count` frames in all, in an order that depends only on the calls so far."""

    def close(self) -> None:
        """Close the environments; a second call does nothing."""


def collected(collection: Collection, count: int, env_id: str) -> list[EnvFrames]:
    """Collect frames; what an environment raises in this process is told in one line.

    Raises:
        UserError: The environment failed.
    """
    try:
        return collection.collect(count)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"environment {env_id} failed while it was stepped: {in_one_line(error)}. With "
            "PEX_LIGHTNING_TRACEBACK=1 the traceback is shown."
        ) from error


class PolicyModule(TensorDictModuleBase):  # type: ignore[misc]
    """Lets TorchRL's collector run an acting policy; also writes which member chose the action."""

    in_keys = ["observation"]  # noqa: RUF012
    out_keys = ["action", "policy_index", "choice_probs"]  # noqa: RUF012

    def __init__(self, policy: ActingPolicy, device: torch.device) -> None:
        super().__init__()
        self._policy = policy
        self._device = device
        self._no_memory = torch.zeros(1, 0, device=device)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act on a single state, `observation` `[obs_dim]`."""
        observation = tensordict.get("observation").to(self._device)
        remembers = self._policy.memory_size > 0
        memory = self._no_memory
        if remembers:
            memory = tensordict.get(MEMORY).to(self._device).unsqueeze(0)
        with torch.inference_mode():
            choice = self._policy.act(observation.unsqueeze(0), memory)
        tensordict.set("action", choice.action[0].to("cpu"))
        tensordict.set("policy_index", choice.policy_index[0].to("cpu"))
        tensordict.set("choice_probs", choice.choice_probs[0].to("cpu"))
        if remembers:
            tensordict.set(NEXT_MEMORY, choice.memory[0].to("cpu"))
        return tensordict


class LocalCollection:
    """Steps one environment in this process while training waits.

    The policy's parameters are not copied, so that an update takes effect at the next frame.
    The environment starts with a fresh episode.

    Args:
        policy: Chooses the actions; it draws from torch's global generator.
        factory: Makes the environment.
        seed: Seed of the environment.
        device: Where the policy's parameters are.
    """

    def __init__(
        self, policy: ActingPolicy, factory: EnvFactory, *, seed: int, device: torch.device
    ) -> None:
        env = CollectorEnv(factory(), policy.memory_size)
        env.set_seed(seed % 2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._collector = Collector(
                env,
                PolicyModule(policy, device),
                frames_per_batch=1,
                total_frames=-1,
                track_traj_ids=False,
                trust_policy=True,
                auto_register_policy_transforms=False,
                # The collector stacks each batch into new tensors, so callers need not copy it.
                use_buffers=False,
                return_same_td=True,
                no_cuda_sync=True,
            )
        self._batches: Iterator[TensorDictBase] = iter(self._collector)

    def request(self, count: int) -> int:
        """Do nothing, as nothing is collected ahead."""
        return 0

    def collect(self, count: int) -> list[EnvFrames]:
        """Step the environment `count` times."""
        # The collector reads `frames_per_batch` anew for every batch.
        self._collector.frames_per_batch = count
        return [EnvFrames(0, next(self._batches))]

    def close(self) -> None:
        """Close the environment; that it fails there matters to nobody any more."""
        self._collector.shutdown(raise_on_error=False)
