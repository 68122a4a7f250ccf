"""This package's IQL: the update that ``fit`` does, without trainer, data module or schedule."""

from __future__ import annotations

from itertools import cycle

import torch

from cases.setting import (
    ACTION_DIM,
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
from pex_lightning.algorithms import IQL
from pex_lightning.algorithms.batch import Batch
from pex_lightning.data.description import DataDescription
from pex_lightning.data.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec


def new_iql() -> IQL:
    """IQL with fresh networks of the common size."""
    torch.manual_seed(0)
    env = EnvSpec("none", {}, OBS_DIM, (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, 1)
    iql = IQL(
        expectile=EXPECTILE,
        beta=BETA,
        gamma=GAMMA,
        tau=TAU,
        learning_rate=LEARNING_RATE,
        hidden_dims=HIDDEN,
        num_q=NUM_Q,
        cosine_decay=False,
    )
    iql.attach(DataDescription(env, "none", "", RewardTransform()))
    return iql


def batches() -> list[Batch]:
    """The common data as this package's batches."""
    columns = [torch.from_numpy(column) for column in arrays()]
    return [Batch(*row) for row in zip(*columns, strict=True)]


def build(precision: str) -> Work:
    """IQL, ready to update."""
    iql = new_iql()
    optimizer = iql.configure_optimizers()
    supply = cycle(batches())

    def step() -> None:
        with autocast(precision):
            losses = iql.losses(next(supply))
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            iql.critic.update_target(iql.tau)

    return Work(step, lambda: flat(p for p in iql.parameters() if p.requires_grad))
