"""This package's PEX update without trainer and data module, on the common batches."""

from __future__ import annotations

import torch
from made_up import ENVIRONMENT

from cases.ours import batches
from cases.setting import HIDDEN, Work
from cases.updates import compiled, plain
from pex_lightning.algorithms import PEX
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import env_spec


def fresh_pex() -> PEX:
    """PEX with fresh networks, without an offline stage."""
    torch.manual_seed(0)
    pex = PEX(hidden_dims=HIDDEN, inv_temperature=10.0)
    env = env_spec(ENVIRONMENT, {})
    pex.attach(DataDescription(env, "none", "", RewardTransform()))
    # Otherwise it asks for an offline stage, whose weights make no difference to the speed.
    pex.resumed = True
    return pex


def build(precision: str) -> Work:
    """The plain update."""
    return plain(fresh_pex(), batches(), precision)


def build_compiled(precision: str) -> Work:
    """The compiled update."""
    return compiled(fresh_pex(), batches(), precision)
