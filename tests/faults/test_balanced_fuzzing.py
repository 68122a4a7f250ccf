"""Altered priorities of balanced replay: taken as they were, or refused in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mutations import SEED_NAMES, SEEDS, altered, attempt
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.long)])
def test_an_altered_state_is_refused_by_the_resume(
    count: int, seed: int, toy: Any, tmp_path: Path
) -> None:
    saver = RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))
    toy.fit(toy.algorithm("Direct"), 5, data=toy.online_data(mix="balanced"), callbacks=[saver])
    raw = torch.load(toy.folder / "last.ckpt", weights_only=True)
    path = toy.folder / "altered.ckpt"

    def resume() -> None:
        data = toy.online_data(mix="balanced")
        toy.fit(toy.algorithm("Direct"), 10, data=data, resume=path)

    for value in altered(raw["data_state"]["mix"][0], seed, count):
        torch.save({**raw, "data_state": {**raw["data_state"], "mix": [value]}}, path)
        attempt(resume)
