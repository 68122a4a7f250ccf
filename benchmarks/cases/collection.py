"""Collection with PEX's composite policy with fresh networks in AntMaze, in this process."""

from __future__ import annotations

import torch
from made_up import ENVIRONMENT

from cases.ours_pex import fresh_pex
from cases.setting import Work, flat
from pex_lightning.collection.local import LocalCollection
from pex_lightning.envs.factory import EnvFactory

FRAMES = 5
"""As many as ``fit`` collects for a chunk of updates."""


def build(precision: str) -> Work:
    """Environment steps as the online stage takes them."""
    assert precision == "float32"
    pex = fresh_pex()
    local = LocalCollection(
        pex.acting_policy(), EnvFactory.of(ENVIRONMENT, {}), seed=0, device=torch.device("cpu")
    )

    def step() -> None:
        local.collect(FRAMES)

    return Work(step, lambda: flat(pex.critic.parameters()), units=FRAMES)
