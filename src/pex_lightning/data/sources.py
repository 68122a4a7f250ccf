"""Where a run's data come from: a file, a recording made here, D4RL's host, or Minari."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

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
    """Something that a dataset can be read from."""

    def prepare(self) -> None:
        """Fetch or make what is not on this machine yet; it may take long."""

    def environment(self) -> tuple[str, Mapping[str, Any]] | None:
        """Id and arguments of the environment that the data are from; None if they do not say."""

    def path(self) -> Path | None:
        """The HDF5 file in D4RL's layout, if there is one on this machine."""

    def notes(self) -> tuple[str, ...]:
        """What a user has to know of these data, a sentence each."""

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """The transitions, checked; with `spec`, against the environment."""


@dataclass(frozen=True)
class FileSource:
    """A file of the user's in D4RL's layout.

    Attributes:
        file: The file.
    """

    file: Path

    def prepare(self) -> None:
        """It is there or it is not."""

    def environment(self) -> tuple[str, Mapping[str, Any]] | None:
        """One of our environments, if the file says that it was recorded there."""
        return recorded_environment(self.file)

    def path(self) -> Path:
        """The file."""
        return self.file

    def notes(self) -> tuple[str, ...]:
        """Nothing is known of it."""
        return ()

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """By the rules of `read_d4rl`."""
        return read_d4rl(self.file, spec=spec)


@dataclass(frozen=True)
class MadeSource:
    """A dataset that this package records.

    Attributes:
        recipe: Its name.
        rows: Number of rows; None takes the recipe's.
        seed: Seed of the recording.
        cache_dir: Folder to keep it in; None takes the user's cache folder.
    """

    recipe: str
    rows: int | None = None
    seed: int = 0
    cache_dir: str | None = None

    def prepare(self) -> None:
        """Record it, unless that was done before."""
        cached_dataset(
            self.recipe, rows=self.rows, seed=self.seed, cache_dir=self._folder(), progress=True
        )

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment that it is recorded in."""
        return RECIPES[self.recipe].env_id, {}

    def path(self) -> Path | None:
        """The file, once it was recorded."""
        path = cached_path(self.recipe, rows=self.rows, seed=self.seed, cache_dir=self._folder())
        return path if path.is_file() else None

    def notes(self) -> tuple[str, ...]:
        """That they are not D4RL's."""
        return (MADE_NOTE,)

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """By the rules of `read_d4rl`, after `prepare`."""
        return read_d4rl(_there(self.path(), self._command()), spec=spec)

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
        mirrors: Addresses to fetch it from, the first first; None takes the usual ones.
        cache_dir: Folder to keep it in; None takes the user's.
    """

    task: D4RLTask
    mirrors: Sequence[str] | None = None
    cache_dir: str | None = None

    def prepare(self) -> None:
        """Download it, or check its checksum if that was done before."""
        fetch_task(self.task, mirrors=self.mirrors, cache_dir=self.cache_dir)

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment that matches the data.

        Raises:
            UserError: None runs today.
        """
        if self.task.env is None:
            raise UserError(
                f"{self.task.id}: no environment for it runs today. {self.task.note} Name one with "
                "--data.env."
            )
        return self.task.env, self.task.env_kwargs

    def path(self) -> Path | None:
        """The file, once it was downloaded."""
        return find_fetched(self.task, cache_dir=self.cache_dir)

    def notes(self) -> tuple[str, ...]:
        """The task's."""
        return (self.task.note,) if self.task.note else ()

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """By the rules of `read_d4rl`, after `prepare`."""
        return read_d4rl(
            _there(self.path(), f"pex-lightning data fetch {self.task.id}"),
            spec=spec,
            max_episode_steps=self.task.max_episode_steps,
            name=self.task.id,
            origin="d4rl",
        )


@dataclass(frozen=True)
class MinariSource:
    """A Minari dataset.

    Attributes:
        dataset_id: Its id, without `minari:`.
    """

    dataset_id: str

    def prepare(self) -> None:
        """Download it, unless it is there."""
        ensure_minari(self.dataset_id)

    def environment(self) -> tuple[str, Mapping[str, Any]]:
        """The environment that it was recorded in."""
        return minari_environment(self.dataset_id)

    def path(self) -> None:
        """Minari keeps its data in a layout of its own."""

    def notes(self) -> tuple[str, ...]:
        """Its pitfalls."""
        return minari_notes(self.dataset_id)

    def read(self, spec: EnvSpec | None = None) -> Dataset:
        """By the rules of `read_minari`."""
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
    """The source that a data module's settings describe; `OfflineData` documents them.

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
    """The source that one word names: a file, `minari:ID`, a task of D4RL, or a recipe.

    Raises:
        UserError: It is none of them; near names are given.
    """
    if reference.startswith(MINARI_PREFIX):
        return MinariSource(reference.removeprefix(MINARI_PREFIX))
    if reference in TASKS:
        return D4RLSource(TASKS[reference])
    if reference in RECIPES:
        return MadeSource(reference)
    looks_like_a_file = os.sep in reference or Path(reference).suffix in (".hdf5", ".h5")
    if looks_like_a_file or Path(reference).exists():
        return FileSource(Path(reference).expanduser())
    near = difflib.get_close_matches(reference, [*TASKS, *RECIPES], n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(
        f"{reference!r} is no file, no task of D4RL and nothing that can be made here.{meant} See "
        "pex-lightning data list; a Minari dataset is written minari:ID."
    )


def _there(path: Path | None, command: str) -> Path:
    if path is None:
        raise UserError(f"the dataset is not on this machine yet: run {command}")
    return path
