"""Settings of a run that belong to neither the model, the data nor the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pex_lightning.errors import UserError


@dataclass(frozen=True)
class EvaluationSettings:
    """How policies are evaluated.

    Attributes:
        episodes: Episodes of one evaluation.
        every: Gradient steps between two evaluations.
        seed: Seed of the first episode, episode i uses seed + i; by default derived from
            --seed_everything and unlike any seed of training.
        num_envs: Environments that run at a time; by default 50.
    """

    episodes: int = 100
    every: int = 10_000
    seed: int | None = None
    num_envs: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("episodes", self.episodes),
            ("every", self.every),
            ("num_envs", self.num_envs),
        ):
            if value is not None and value < 1:
                raise UserError(f"--evaluation.{name} is {value}; it must be at least 1.")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"--evaluation.seed is {self.seed}; it must be 0 or more.")


@dataclass(frozen=True)
class RunSettings:
    """Where a run's results go: ``<root>/<name>/{offline,online}/``.

    Attributes:
        name: Name of the run.
        root: Folder of all runs.
        overwrite: Whether to replace a run of that name.
        save_every: Gradient steps between two checkpoints.
    """

    name: str = "default"
    root: str = "runs"
    overwrite: bool = False
    save_every: int = 5_000

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).is_absolute() or ".." in Path(self.name).parts:
            raise UserError(f"--run.name is {self.name!r}; it must be a name for a folder.")
        if self.save_every < 1:
            raise UserError(f"--run.save_every is {self.save_every}; it must be at least 1.")

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return Path(self.root) / self.name
