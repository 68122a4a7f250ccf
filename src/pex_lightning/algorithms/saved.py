"""What a checkpoint of a method holds beside what Lightning puts into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from pytorch_lightning import Trainer

from pex_lightning.algorithms.checks import method_name
from pex_lightning.data.description import DataDescription
from pex_lightning.data.stage_data import stage_data
from pex_lightning.errors import UserError
from pex_lightning.handover import CheckpointHeader
from pex_lightning.handover.checkpoint import (
    CHECKPOINT_KEY,
    DATA_STATE_KEY,
    Part,
    migrate,
    parts_of,
)
from pex_lightning.seeding import random_state


class Saved(Protocol):
    """What is asked of a method."""

    places: ClassVar[Mapping[Part, str]]
    trainer: Any

    @property
    def global_step(self) -> int:
        """Updates done so far."""


def save_extras(
    method: Saved, checkpoint: dict[str, Any], data: DataDescription, members: tuple[str, ...]
) -> None:
    """Add the header, the data module's state and the random state.

    Args:
        method: The method in its trainer.
        checkpoint: As Lightning writes it.
        data: Environment, dataset and reward transform.
        members: Names of the policies that act.
    """
    stage = stage_data(method.trainer)
    header = CheckpointHeader(
        algorithm=method_name(type(method)),
        stage="online" if stage.steps_environment else "offline",
        parts=parts_of(checkpoint, method.places),
        members=members,
        data=data,
        gradient_steps=method.global_step,
        env_steps=stage.env_steps,
    )
    checkpoint[CHECKPOINT_KEY] = header.to_dict()
    checkpoint[DATA_STATE_KEY] = stage.run_state()
    checkpoint["random_state"] = random_state()


def load_extras(trainer: Trainer, checkpoint: dict[str, Any]) -> Mapping[str, Any] | None:
    """Bring a checkpoint to today's format and give the data module its state.

    Returns:
        The random state, if the checkpoint has one.

    Raises:
        UserError: The stage steps an environment, and nothing was kept of what it collected.
    """
    migrate(checkpoint)
    state, data = checkpoint.get(DATA_STATE_KEY), stage_data(trainer)
    if state is not None:
        data.load_run_state(state)
    elif data.steps_environment:
        raise UserError(
            f"{trainer.ckpt_path} holds nothing of what was collected, so a run that steps an "
            "environment cannot go on from it. Take another checkpoint."
        )
    random: Mapping[str, Any] | None = checkpoint.get("random_state")
    return random
