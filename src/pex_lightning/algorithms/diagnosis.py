"""Diagnostics that are computed when they are logged, not in every update."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

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
        are several. `q_data` and `q_random`: mean over the batch of the smallest Q of its own
        actions, and of actions drawn uniformly from the action space, of which hardly any is in the
        data. And what the acting policy adds (`ActingPolicy.diagnose`).
    """
    (batch,) = batches(chunk[-1:])
    found = {}
    critic = getattr(module, "critic", None)
    if isinstance(critic, Critic):
        q = critic.q(batch.observation, batch.action)
        found["q_size"] = q.abs().mean()
        if q.shape[0] > 1:
            found["q_disagreement"] = q.std(0, correction=0).mean()
        found["q_data"] = q.amin(0).mean()
    with own_random_stream(_SEED, module.device):
        if isinstance(critic, Critic):
            action = _random_actions(module, batch.action)
            found["q_random"] = critic.q(batch.observation, action).amin(0).mean()
        found.update(module.acting_policy().diagnose(batch.observation))
    return {name: float(value) for name, value in found.items()}


def _random_actions(module: Algorithm, like: Tensor) -> Tensor:
    """Actions drawn uniformly from the action space, as many as there are."""
    assert module.description is not None
    env = module.description.env
    low, high = like.new_tensor(env.action_low), like.new_tensor(env.action_high)
    return low + (high - low) * torch.rand_like(like)
