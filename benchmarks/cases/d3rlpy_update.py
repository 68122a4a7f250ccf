"""d3rlpy's IQL, given batches that are tensors already; its update reports its losses as floats.

Its default networks have the common size, its policy a state-independent standard deviation.
"""

from __future__ import annotations

from itertools import cycle

import d3rlpy
import torch
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.torch_utility import TorchMiniBatch

from benchmarks.cases.shared.setting import (
    ACTION_DIM,
    BATCH,
    BETA,
    EXPECTILE,
    GAMMA,
    HIDDEN,
    LEARNING_RATE,
    NUM_Q,
    OBS_DIM,
    TAU,
    Work,
    arrays,
    autocast,
    flat,
)


def _batches() -> list[TorchMiniBatch]:
    data = arrays()
    column = torch.zeros(BATCH, 1)
    return [
        TorchMiniBatch(
            observations=torch.from_numpy(observation),
            actions=torch.from_numpy(action),
            rewards=torch.from_numpy(reward).unsqueeze(-1),
            next_observations=torch.from_numpy(next_observation),
            next_actions=torch.from_numpy(action),
            returns_to_go=column,
            terminals=torch.from_numpy(terminated).float().unsqueeze(-1),
            intervals=torch.ones_like(column),
            device="cpu:0",
        )
        for observation, action, reward, terminated, next_observation in zip(*data, strict=True)
    ]


def new_iql() -> d3rlpy.algos.IQL:
    """The algorithm, without networks yet."""
    torch.manual_seed(0)
    encoder = VectorEncoderFactory(hidden_units=list(HIDDEN))
    return d3rlpy.algos.IQLConfig(
        actor_learning_rate=LEARNING_RATE,
        critic_learning_rate=LEARNING_RATE,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        value_encoder_factory=encoder,
        batch_size=BATCH,
        gamma=GAMMA,
        tau=TAU,
        n_critics=NUM_Q,
        expectile=EXPECTILE,
        weight_temp=BETA,
    ).create(device="cpu:0")


def build(precision: str) -> Work:
    """The algorithm, ready to update."""
    algorithm = new_iql()
    algorithm.create_impl((OBS_DIM,), ACTION_DIM)
    impl = algorithm.impl
    assert impl is not None
    supply = cycle(_batches())
    optimizers = (impl.policy_optim, impl.q_function_optim)
    learnt = [p for o in optimizers for group in o.param_groups for p in group["params"]]

    def step() -> None:
        with autocast(precision):
            impl.update(next(supply), 0)

    return Work(step, lambda: flat(learnt))
