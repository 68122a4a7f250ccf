"""Checkpoints of every method, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pex_lightning.handover.checkpoint import CHECKPOINT_KEY, CheckpointHeader

Saved = Callable[..., Path]


@pytest.fixture
def saved(toy: Any, tmp_path: Path) -> Saved:
    """Writes a checkpoint of a method as it is when its stage begins, for the toy environment."""

    def save(
        name: str,
        change: Callable[[Any], None] | None = None,
        path: Path | None = None,
        **settings: Any,
    ) -> Path:
        torch.manual_seed(0)
        module = toy.algorithm(name, **settings)
        module.attach(toy.description())
        # Policies that begin as copies of each other are told apart from here on.
        generator = torch.Generator().manual_seed(1)
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        if change is not None:
            change(module)
        header = CheckpointHeader(
            algorithm=name,
            stage="online" if module.acts else "offline",
            parts={},
            members=module.acting_policy().members,
            data=toy.description(),
            gradient_steps=7,
            env_steps=0,
        )
        path = tmp_path / f"{name}.ckpt" if path is None else path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            CHECKPOINT_KEY: header.to_dict(),
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
        }
        torch.save(content, path)
        return path

    return save
