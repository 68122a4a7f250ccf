"""This package's IQL: the update that ``fit`` does, without trainer, data module or schedule."""

from __future__ import annotations

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
)
from cases.updates import compiled, plain
from pex_lightning.algorithms import IQL
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec
from pex_lightning.updates.batch import Batch


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
    """The plain update."""
    return plain(new_iql(), batches(), precision)


def build_compiled(precision: str) -> Work:
    """The compiled update."""
    return compiled(new_iql(), batches(), precision)
