"""A process that collects: the environment, the policy's copy, and the answer to requests."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from pex_lightning.collection.local import LocalCollection
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError
from pex_lightning.policies.acting import ActingPolicy
from pex_lightning.processes import leave_signals_to_the_parent, next_message

FRAME_KEYS = ("observation", "action", "policy_index", "choice_probs")
NEXT_KEYS = ("observation", "reward", "done", "terminated", "truncated")


@dataclass(frozen=True)
class CollectorJob:
    """What a process is started with.

    Attributes:
        policy: Chooses the actions; its weights are in shared memory.
        factory: Makes the environment.
        number: Which of the collectors this is, for errors.
        env_seed: Seed of the environment.
        actor_seed: Seed of torch's generator, from which the actor draws.
    """

    policy: ActingPolicy
    factory: EnvFactory
    number: int
    env_seed: int
    actor_seed: int


@dataclass(frozen=True)
class Failure:
    """Why a process ended.

    Attributes:
        message: For the user.
        details: The traceback.
    """

    message: str
    details: str


Columns = list[np.ndarray]
"""Frames ``[F]``: ``FRAME_KEYS``, then ``NEXT_KEYS``."""


def serve(pipe: Connection, job: CollectorJob, parent: int) -> None:
    """Collect as many frames as each request says, until told to stop or the parent is gone.

    Args:
        pipe: Requests come in (a number, or None for the end), ``Columns`` or a ``Failure`` go out.
        job: What to collect.
        parent: Process id of the parent.
    """
    leave_signals_to_the_parent()
    # The other processors are the learner's.
    torch.set_num_threads(1)
    collection: LocalCollection | None = None
    try:
        torch.manual_seed(job.actor_seed)
        cpu = torch.device("cpu")
        collection = LocalCollection(job.policy, job.factory, seed=job.env_seed, device=cpu)
        while (count := next_message(pipe, parent)) is not None:
            assert isinstance(count, int)
            pipe.send(_columns(collection.collect(count)[0].frames))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # The parent is gone and nobody is left to tell.
        pass
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(Failure(_message(job, error), traceback.format_exc()))
    finally:
        if collection is not None:
            # Nothing depends on it any more.
            with contextlib.suppress(Exception):
                collection.close()


def frames_of(columns: Columns) -> TensorDictBase:
    """The frames ``[F]`` that a process sent."""
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


def _message(job: CollectorJob, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return (
        f"--data.num_collectors: collector {job.number}, which runs {job.factory.env_id}, failed: "
        f"{type(error).__name__}: {error}. With --data.num_collectors 0 the environment runs in "
        "the learner's process, where a debugger can follow it."
    )
