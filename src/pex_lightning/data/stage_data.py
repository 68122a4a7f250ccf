"""What a method and its callbacks ask of a data module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pytorch_lightning import Trainer

from pex_lightning.data.description import DataDescription
from pex_lightning.data.schedule import Interval
from pex_lightning.errors import UserError


@runtime_checkable
class StageData(Protocol):
    """A LightningDataModule whose loader gives chunks `[K, B]` of transitions.

    Attributes:
        boundary: When chunks have to end, or None; set by the evaluation before training.
    """

    boundary: Interval | None

    @property
    def steps_environment(self) -> bool:
        """Whether it steps an environment while the method learns."""

    @property
    def env_steps(self) -> int:
        """Environment steps collected so far, over all processes."""

    def describe(self) -> DataDescription:
        """What the data are; after `setup`."""

    def take_statistics(self) -> Mapping[str, float]:
        """Means over what was collected since the last call, by name; empty if nothing was."""

    def recent_shares(self) -> Mapping[str, float]:
        """How often each member of the acting policy acted lately, by its name."""

    def save_replay(self, folder: Path) -> set[str]:
        """Write what was collected since the last call; every process calls it.

        Returns:
            Names of the files in this process's part of `folder` that a checkpoint written now
            needs.
        """

    def run_state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps for a resume, primitives and tensors; None if nothing."""

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Undo `run_state`."""


def stage_data(trainer: Trainer) -> StageData:
    """The data module of a trainer.

    Raises:
        UserError: It is not one that a method of this package can learn from.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, StageData):
        raise UserError(
            "a method of pex-lightning needs a data module of pex-lightning (OfflineData or "
            "OnlineData), or one with the members of StageData, which says what the environment "
            f"looks like; got {type(data).__name__}."
        )
    return data
