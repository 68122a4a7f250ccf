"""Datasets recorded by this package, so that a first run needs no download.

As in D4RL's AntMaze (Fu et al. 2020, arXiv 2004.07219), a robot follows shortest paths between
cells of a maze with noisy actions; the rows are labelled afterwards with the goal of the evaluation
task. The files are not D4RL's, and scores on them are not comparable with scores on D4RL.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pex_lightning.envs.antmaze import AntMazeEnv
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.errors import UserError, check_range
from pex_lightning.files.cache import cache_folder, cache_path
from pex_lightning.files.hdf5_files import written_hdf5
from pex_lightning.files.locks import locked
from pex_lightning.files.progress import progress_bar
from pex_lightning.recording.recipes import RECIPES, PointMazeRecipe, Recipe, find_recipe
from pex_lightning.recording.workers import record_episodes
from pex_lightning.version import __version__

__all__ = ["RECIPES", "cached_dataset", "cached_path", "make_dataset"]

Array = npt.NDArray[np.float64]
Rows = dict[str, npt.NDArray[Any]]

_ANT_TARGET_OFFSET = 0.75

MADE_NOTE = (
    "These data were recorded by this package, by a recipe like D4RL's; they are not D4RL's files, "
    "and scores of what is learnt from them are not D4RL scores."
)


def make_dataset(
    name: str,
    path: Path,
    *,
    rows: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Record a dataset and write it to `path` in D4RL's HDF5 layout.

    Keys: `observations` `[rows, obs_dim]`, `actions` `[rows, action_dim]` as executed, `rewards`,
    `terminals`, `timeouts` `[rows]`, `infos/goal` `[rows, 2]` (see `Episode.goals`). Row i has
    reward 1 and `terminals` set if row i + 1 lies within the radius of the evaluation goal
    (`target_goal`) and belongs to the same episode. `timeouts` is set on each episode's last row.
    The attributes describe the recording. Equal arguments give equal bytes for any number of
    processes (with the same versions of this package, NumPy, MuJoCo and HDF5, on the same kind of
    processor). The file only appears once it is complete.

    Args:
        name: A key of `RECIPES`.
        path: The file to write; an existing one is replaced.
        rows: Number of rows, by default the recipe's.
        seed: Random seed.
        workers: Number of processes; 1 records in this process. By default one per available
            processor, fewer for few episodes. A script that uses several needs an
            `if __name__ == "__main__":`.
        progress: Show progress on stderr.

    Raises:
        UserError: The name is unknown, `rows`, `seed` or `workers` is out of range, a process
            ended unexpectedly, or the folder is not writable.
    """
    recipe = find_recipe(name)
    count = _checked_rows(rows, recipe)
    check_range("seed", seed, seed >= 0, "0 or more")
    labels = _Labels.of(recipe)
    attributes = {
        "target_goal": labels.target,
        "dataset": name,
        "env_id": recipe.env_id,
        "generator": f"{__name__}.make_dataset",
        "package_version": __version__,
        "rows": count,
        "seed": seed,
        "recipe_version": recipe.version,
        **{f"recipe/{key}": value for key, value in asdict(recipe).items()},
        "goal_radius": labels.goal_radius,
    }
    # The file is begun first, so that a folder that cannot be written is told before recording.
    with written_hdf5(path) as file:
        data = _record(recipe, labels, count, seed, workers=workers, progress=progress)
        _label(data, labels)
        file.attrs.update(attributes)
        for key, column in data.items():
            file.create_dataset(key, data=column, compression="gzip", track_times=False)


def cached_dataset(
    name: str,
    *,
    rows: int | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Return the path of a dataset in the cache, recording the dataset first if it is missing.

    The file name contains everything that determines the content, including the recipe's version.

    Args:
        name: A key of `RECIPES`.
        rows: Number of rows, by default the recipe's.
        seed: Random seed.
        cache_dir: Folder of the files, by default `$XDG_CACHE_HOME/pex-lightning/made`, with
            `~/.cache` if the variable is unset.
        workers: As for `make_dataset`.
        progress: Show progress on stderr.

    Raises:
        UserError: As for `make_dataset`.
    """
    path = cached_path(name, rows=rows, seed=seed, cache_dir=cache_dir)
    if path.is_file():
        return path
    cache_folder("made", path.parent)
    try:
        with locked(path):
            # Another process may have written the file while this one waited.
            if not path.is_file():
                make_dataset(name, path, rows=rows, seed=seed, workers=workers, progress=progress)
    except OSError as error:
        raise UserError(
            f"{path}: {path.parent} cannot be written to ({error.strerror or error})."
        ) from error
    return path


def cached_path(
    name: str, *, rows: int | None = None, seed: int = 0, cache_dir: Path | None = None
) -> Path:
    """Return where `cached_dataset` stores a dataset, whether the file exists or not.

    Raises:
        UserError: The name is unknown, or the number of rows is out of range.
    """
    recipe = find_recipe(name)
    count = _checked_rows(rows, recipe)
    folder = cache_path("made", cache_dir)
    return folder / f"{name}-rows{count}-seed{seed}-v{recipe.version}.hdf5"


@dataclass(frozen=True)
class _Labels:
    """The evaluation goal, `target` `[2]` in metres, and sizes of the environment."""

    target: Array
    goal_radius: float
    obs_dim: int
    action_dim: int

    @classmethod
    def of(cls, recipe: Recipe) -> _Labels:
        is_point = isinstance(recipe, PointMazeRecipe)
        env = PointMazeEnv(recipe.maze) if is_point else AntMazeEnv(recipe.maze)
        with contextlib.closing(env):
            centre = env.maze.to_xy(env.maze.goal_cell)
            return cls(
                target=centre if is_point else centre + _ANT_TARGET_OFFSET,
                goal_radius=env.goal_radius,
                obs_dim=int(env.model.nq + env.model.nv),
                action_dim=int(env.model.nu),
            )


def _checked_rows(rows: int | None, recipe: Recipe) -> int:
    count = recipe.rows if rows is None else rows
    check_range("rows", count, count >= 2, "2 or more")
    return count


def _record(
    recipe: Recipe, labels: _Labels, rows: int, seed: int, *, workers: int | None, progress: bool
) -> Rows:
    """Record `rows` rows without rewards and terminals."""
    data: Rows = {
        "observations": np.zeros((rows, labels.obs_dim), np.float32),
        "actions": np.zeros((rows, labels.action_dim), np.float32),
        "timeouts": np.zeros(rows, np.bool_),
        "infos/goal": np.zeros((rows, 2), np.float32),
    }
    first = 0
    episodes = record_episodes(recipe, rows=rows, seed=seed, workers=workers)
    bar = progress_bar("recording", total=rows, show=progress, unit=" rows")
    # Closing the generator ends its processes, also on Ctrl-C.
    with contextlib.closing(episodes), bar:
        for episode in episodes:
            last = first + len(episode.actions)
            data["observations"][first:last] = episode.observations
            data["actions"][first:last] = episode.actions
            data["infos/goal"][first:last] = episode.goals
            data["timeouts"][last - 1] = True
            bar.update(last - first)
            first = last
    return data


def _label(data: Rows, labels: _Labels) -> None:
    """Add `rewards` and `terminals`, set where the next row lies near the evaluation goal."""
    distance = np.linalg.norm(data["observations"][1:, :2] - labels.target, axis=1)
    reached = np.append(distance <= labels.goal_radius, np.False_) & ~data["timeouts"]
    data["rewards"] = reached.astype(np.float32)
    data["terminals"] = reached
