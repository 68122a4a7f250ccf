"""Datasets recorded by this package, so that a first run needs no download.

As in D4RL's AntMaze (Fu et al. 2020, arXiv 2004.07219), a robot follows shortest paths between
cells of a maze with noisy actions; the rows are labelled afterwards with the goal of the evaluation
task. As in its halfcheetah-medium, a policy of medium skill runs. The files are not D4RL's, and
scores on them are not comparable with scores on D4RL.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pex_lightning.errors import UserError, check_range
from pex_lightning.files.cache import cache_folder, cache_path
from pex_lightning.files.hdf5_files import written_hdf5
from pex_lightning.files.locks import locked
from pex_lightning.files.progress import progress_bar
from pex_lightning.recording.episode import Columns
from pex_lightning.recording.labels import add_labels
from pex_lightning.recording.recipes import RECIPES, Recipe, find_recipe
from pex_lightning.recording.workers import record_episodes
from pex_lightning.version import __version__

__all__ = ["RECIPES", "cached_dataset", "cached_path", "make_dataset"]

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
    `terminals`, `timeouts` `[rows]`; of a maze also `infos/goal` `[rows, 2]`, where the robot was
    heading, in metres. See `add_labels` for a maze's rewards. `timeouts` is set on each episode's
    last row, which has no next observation.
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
    attributes = {
        "dataset": name,
        "env_id": recipe.env_id,
        "generator": f"{__name__}.make_dataset",
        "package_version": __version__,
        "rows": count,
        "seed": seed,
        "recipe_version": recipe.version,
        **{f"recipe/{key}": value for key, value in asdict(recipe).items()},
    }
    # The file is begun first, so that a folder that cannot be written is told before recording.
    with written_hdf5(path) as file:
        data = _record(recipe, count, seed, workers=workers, progress=progress)
        file.attrs.update(attributes | add_labels(data, recipe))
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


def _checked_rows(rows: int | None, recipe: Recipe) -> int:
    count = recipe.rows if rows is None else rows
    check_range("rows", count, count >= 2, "2 or more")
    return count


def _record(
    recipe: Recipe, rows: int, seed: int, *, workers: int | None, progress: bool
) -> Columns:
    """Record `rows` rows, without what `add_labels` adds."""
    data: Columns = {"timeouts": np.zeros(rows, np.bool_)}
    first = 0
    episodes = record_episodes(recipe, rows=rows, seed=seed, workers=workers)
    bar = progress_bar("recording", total=rows, show=progress, unit=" rows")
    # Closing the generator ends its processes, also on Ctrl-C.
    with contextlib.closing(episodes), bar:
        for episode in episodes:
            last = first + len(episode["actions"])
            for key, column in episode.items():
                if key not in data:
                    data[key] = np.zeros((rows, *column.shape[1:]), column.dtype)
                data[key][first:last] = column
            data["timeouts"][last - 1] = True
            bar.update(last - first)
            first = last
    return data
