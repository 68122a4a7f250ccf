"""Loaded by the processes of a distributed run: writes down what each of them ended with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.updates import executor
from pex_lightning.updates.compilation.compiler import CompilationError
from pex_lightning.updates.compiled import CompiledUpdate

if "DDP_PLAIN_UPDATES" in os.environ:
    executor.WORTH_COMPILING = executor.PLAIN_UPDATES = int(os.environ["DDP_PLAIN_UPDATES"])


class Probe(Callback):
    """Writes `<stage>-<rank>.pt` into the folder named by `DDP_PROBE`.

    With `DDP_PLAIN_UPDATES` in the environment, runs begin with so many plain updates and are
    compiled from then on, or with `DDP_FAILS` as well are not, since one process cannot.
    """

    def __init__(self) -> None:
        self._rewards: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "DDP_FAILS" in os.environ and trainer.global_rank == 1:
            CompiledUpdate.finish = _fails  # type: ignore[method-assign]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rewards.append(batch.get("observation").clone())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        stage = "online" if data.steps_environment else "offline"
        online = data._online[:]["observation"].clone() if stage == "online" else None
        torch.save(
            {
                "parameters": pl_module.state_dict(),
                "seen": torch.cat([chunk.flatten(0, 1) for chunk in self._rewards]),
                "collected": online,
                "env_steps": data.env_steps,
                "global_step": trainer.global_step,
                "compiles": pl_module.compiles,
            },
            Path(os.environ["DDP_PROBE"]) / f"{stage}-{trainer.global_rank}.pt",
        )


def _fails(update: CompiledUpdate) -> None:
    raise CompilationError("no room")
