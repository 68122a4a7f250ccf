"""Diagnostics that are computed when they are logged, not in every update."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.nn.critic import Critic
from pex_lightning.seeding import own_random_stream
from pex_lightning.updates.batch import batches

_SEED = 0


@torch.no_grad()
def diagnose(module: Algorithm, chunk: TensorDictBase) -> dict[str, float]:
    """What the critic and the acting policy say of the last batch of a chunk `[K, B]`.

    Training goes on as if it had not been asked: no random numbers of its stream are drawn.

    Returns:
        `q_size`: mean of |Q| over the batch and the Q-functions. `q_disagreement`: standard
        deviation over the Q-functions (divided by their number), mean over the batch; only if there
        are several. And what the acting policy adds (`ActingPolicy.diagnose`).
    """
    (batch,) = batches(chunk[-1:])
    found = {}
    critic = getattr(module, "critic", None)
    if isinstance(critic, Critic):
        q = critic.q(batch.observation, batch.action)
        found["q_size"] = q.abs().mean()
        if q.shape[0] > 1:
            found["q_disagreement"] = q.std(0, correction=0).mean()
    with own_random_stream(_SEED, module.device):
        found.update(module.acting_policy().diagnose(batch.observation))
    return {name: float(value) for name, value in found.items()}
