"""The side of `CollectorPool` that runs in each collecting process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from pex_lightning.collection.local import LocalCollection
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError
from pex_lightning.policies.acting import ActingPolicy

FRAME_KEYS = ("observation", "action", "policy_index", "choice_probs")
NEXT_KEYS = ("observation", "reward", "done", "terminated", "truncated")


@dataclass(frozen=True)
class CollectorJob:
    """The settings with which one collecting process starts.

    Attributes:
        policy: Chooses the actions; its weights are in shared memory.
        factory: Makes the environment.
        number: The collector's number, for error messages.
        env_seed: Seed of the environment.
        actor_seed: Seed of torch's generator, from which the policy draws.
    """

    policy: ActingPolicy
    factory: EnvFactory
    number: int
    env_seed: int
    actor_seed: int


Columns = list[np.ndarray]
"""Columns of frames `[F]`: those of `FRAME_KEYS`, then those of `NEXT_KEYS`."""


class CollectorProcess:
    """Collects frames in a process of its own, each time it is called with their number.

    Args:
        job: The settings.
    """

    def __init__(self, job: CollectorJob) -> None:
        # Leave the other processors to training.
        torch.set_num_threads(1)
        torch.manual_seed(job.actor_seed)
        self._job = job
        cpu = torch.device("cpu")
        with _named(job):
            self._collection = LocalCollection(
                job.policy, job.factory, seed=job.env_seed, device=cpu
            )

    def __call__(self, count: int) -> Columns:
        """Collect `count` frames."""
        with _named(self._job):
            return _columns(self._collection.collect(count)[0].frames)

    def close(self) -> None:
        """Close the environment."""
        self._collection.close()


def frames_of(columns: Columns) -> TensorDictBase:
    """Frames `[F]` from the columns that a process sent."""
    tensors = [torch.from_numpy(column) for column in columns]
    first, following = tensors[: len(FRAME_KEYS)], tensors[len(FRAME_KEYS) :]
    return TensorDict(
        {
            **dict(zip(FRAME_KEYS, first, strict=True)),
            "next": dict(zip(NEXT_KEYS, following, strict=True)),
        },
        batch_size=[len(columns[0])],
    )


def _columns(frames: TensorDictBase) -> Columns:
    following: TensorDictBase = frames.get("next")
    return [
        *(frames.get(key).numpy() for key in FRAME_KEYS),
        *(following.get(key).numpy() for key in NEXT_KEYS),
    ]


@contextlib.contextmanager
def _named(job: CollectorJob) -> Iterator[None]:
    """Turn errors into a UserError that names the collector."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--data.num_collectors: collector {job.number}, which runs {job.factory.env_id}, "
            f"failed: {type(error).__name__}: {error}. With --data.num_collectors 0 the "
            "environment runs in the learner's process, where a debugger can follow it."
        ) from error
