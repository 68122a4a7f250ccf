"""Sources of datasets: the user's files, recordings of this package, D4RL and Minari."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pex_lightning.d4rl.checksums import is_published
from pex_lightning.d4rl.fetch import fetch_task, find_fetched
from pex_lightning.d4rl.tasks import TASKS, D4RLTask, find_task
from pex_lightning.datasets.d4rl_reader import read_d4rl, recorded_environment
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.datasets.minari.reader import (
    ensure_minari,
    minari_environment,
    minari_notes,
    read_minari,
)
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.recording.make import MADE_NOTE, RECIPES, cached_dataset, cached_path

SourceName = Literal["file", "make", "d4rl", "minari"]

MINARI_PREFIX = "minari:"


class DataSource(Protocol):
    """A source from which a dataset can be read."""

    def prepare(self) -> None:
        """Download or record the data if they are not on this machine yet; may take long."""

    def environment(self) -> tuple[str, Mapping[str, Any]] | None:
        """Id and arguments of the environment that the data come from; None if unknown."""

    def path(self) -> Path | None:
        """The HDF5 file in D4RL's layout, if there is one on this machine."""

    def notes(self) -> tuple[str, ...]:
        """What a user has to know about these data, one sentence each."""

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read and check the transitions; with `spec`, also check them against the environment."""


@dataclass(frozen=True)
class FileSource:
    """A user's file in D4RL's layout.

    Attributes:
        file: The file.
    """

    file: Path

    def prepare(self) -> None:
        """Do nothing: a user's file cannot be fetched."""

    def environment(self) -> tuple[str, Mapping[str, Any]] | None:
        """An environment of this package, if the file names it as the one it was recorded in."""
        return recorded_environment(self.file)

    def path(self) -> Path:
        """The file."""
        return self.file

    def notes(self) -> tuple[str, ...]:
        """No notes: nothing is known about a user's file."""
        return ()

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read the file with `read_d4rl`."""
        return read_d4rl(self.file, spec=spec, as_published=self.as_published)

    @property
    def as_published(self) -> bool:
        """Whether it is a file of D4RL's, of which D4RL's own rows are kept."""
        return is_published(self.file)


@dataclass(frozen=True)
class MadeSource:
    """A dataset that this package records.

    Attributes:
        recipe: Name of the recipe.
        rows: Number of rows; None for the recipe's own number.
        seed: Seed of the recording.
        cache_dir: Folder to keep the dataset in; None for the user's cache folder.
    """

    recipe: str
    rows: int | None = None
    seed: int = 0
    cache_dir: str | None = None

    def prepare(self) -> None:
        """Record the dataset, unless it is in the cache."""
        cached_dataset(
            self.recipe, rows=self.rows, seed=self.seed, cache_dir=self._folder(), progress=True
        )

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment in which the dataset is recorded."""
        return RECIPES[self.recipe].env_id, {}

    def path(self) -> Path | None:
        """The recorded file; None before it is recorded."""
        path = cached_path(self.recipe, rows=self.rows, seed=self.seed, cache_dir=self._folder())
        return path if path.is_file() else None

    def notes(self) -> tuple[str, ...]:
        """A note that the data are not D4RL's."""
        return (MADE_NOTE,)

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read the file with `read_d4rl`; call `prepare` before."""
        return read_d4rl(_existing(self.path(), self._command()), spec=spec)

    def _command(self) -> str:
        rows = "" if self.rows is None else f" --rows {self.rows}"
        folder = "" if self.cache_dir is None else f" --cache_dir {self.cache_dir}"
        return f"pex-lightning data make {self.recipe}{rows} --seed {self.seed}{folder}"

    def _folder(self) -> Path | None:
        return None if self.cache_dir is None else Path(self.cache_dir).expanduser()


@dataclass(frozen=True)
class D4RLSource:
    """A published dataset of D4RL.

    Attributes:
        task: The task.
        mirrors: Addresses to download from, tried in this order; None for the usual ones.
        cache_dir: Folder to keep the file in; None for the user's cache folder.
    """

    task: D4RLTask
    mirrors: Sequence[str] | None = None
    cache_dir: str | None = None

    def prepare(self) -> None:
        """Download the file; if it is there already, verify its checksum."""
        fetch_task(self.task, mirrors=self.mirrors, cache_dir=self.cache_dir)

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment that matches the data.

        Raises:
            UserError: No such environment runs today.
        """
        if self.task.env is None:
            raise UserError(
                f"{self.task.id}: no environment for it runs today. {self.task.note} Name one with "
                "--data.env."
            )
        return self.task.env, self.task.env_kwargs

    def path(self) -> Path | None:
        """The downloaded file; None before the download."""
        return find_fetched(self.task, cache_dir=self.cache_dir)

    def notes(self) -> tuple[str, ...]:
        """The task's note, if it has one."""
        return (self.task.note,) if self.task.note else ()

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read the file with `read_d4rl`; call `prepare` before."""
        return read_d4rl(
            _existing(self.path(), f"pex-lightning data fetch {self.task.id}"),
            spec=spec,
            max_episode_steps=self.task.max_episode_steps,
            name=self.task.id,
            origin="d4rl",
            as_published=True,
        )


@dataclass(frozen=True)
class MinariSource:
    """A Minari dataset.

    Attributes:
        dataset_id: Minari's id of the dataset, without `minari:`.
    """

    dataset_id: str

    def prepare(self) -> None:
        """Download the dataset, unless it is on this machine."""
        ensure_minari(self.dataset_id)

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment in which the dataset was recorded."""
        return minari_environment(self.dataset_id)

    def path(self) -> None:
        """None, as Minari stores data in another layout than D4RL."""

    def notes(self) -> tuple[str, ...]:
        """The pitfalls of this dataset."""
        return minari_notes(self.dataset_id)

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """Read the dataset with `read_minari`."""
        return read_minari(self.dataset_id, spec=spec)


def choose_source(
    source: SourceName,
    *,
    path: str | None = None,
    dataset: str | None = None,
    rows: int | None = None,
    seed: int = 0,
    mirrors: Sequence[str] | None = None,
    cache_dir: str | None = None,
) -> DataSource:
    """Choose the source that a data module's settings describe; `OfflineData` documents them.

    Raises:
        UserError: A setting is missing or unknown.
    """
    if path is not None:
        if path.startswith(MINARI_PREFIX):
            return MinariSource(path.removeprefix(MINARI_PREFIX))
        return FileSource(Path(path).expanduser())
    if source == "file":
        raise UserError(
            "no dataset: give --data.path FILE.hdf5 (D4RL's layout), --data.path minari:ID, a task "
            "of D4RL by --data.source d4rl --data.dataset TASK (pex-lightning data list), or let "
            "the package record one: --data.source make --data.dataset NAME."
        )
    if dataset is None:
        known = {"make": sorted(RECIPES), "d4rl": sorted(TASKS), "minari": ["its id"]}[source]
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise UserError(f"--data.source {source} needs --data.dataset: {shown}.")
    if source == "make":
        cached_path(dataset, rows=rows, seed=seed)
        return MadeSource(dataset, rows, seed, cache_dir)
    if source == "d4rl":
        return D4RLSource(find_task(dataset, RECIPES), mirrors, cache_dir)
    return MinariSource(dataset.removeprefix(MINARI_PREFIX))


def resolve(reference: str) -> DataSource:
    """Find the source named by one word: a file, `minari:ID`, a D4RL task or a recipe.

    Raises:
        UserError: The word names none of these; the message suggests similar names.
    """
    if reference.startswith(MINARI_PREFIX):
        return MinariSource(reference.removeprefix(MINARI_PREFIX))
    if reference in TASKS:
        return D4RLSource(TASKS[reference])
    if reference in RECIPES:
        return MadeSource(reference)
    looks_like_a_file = os.sep in reference or Path(reference).suffix in (".hdf5", ".h5", ".npz")
    if looks_like_a_file or Path(reference).exists():
        return FileSource(Path(reference).expanduser())
    near = difflib.get_close_matches(reference, [*TASKS, *RECIPES], n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(
        f"{reference!r} is no file, no task of D4RL and nothing that can be made here.{meant} See "
        "pex-lightning data list; a Minari dataset is written minari:ID."
    )


def _existing(path: Path | None, command: str) -> Path:
    if path is None:
        raise UserError(f"the dataset is not on this machine yet: run {command}")
    return path
