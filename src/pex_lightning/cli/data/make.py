"""`pex-lightning data make`: record a dataset on this machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.cli.console import sigterm_as_exit
from pex_lightning.datasets.hdf5 import find_columns, open_hdf5
from pex_lightning.errors import UserError
from pex_lightning.files.cache import cache_folder
from pex_lightning.recording.make import MADE_NOTE, RECIPES, cached_path, make_dataset
from pex_lightning.recording.recipes import HalfCheetahRecipe, find_recipe


def run(argv: list[str]) -> int:
    """Record a dataset unless it is in the cache, and print its path.

    Raises:
        UserError: An argument is wrong, the file exists, or it cannot be written.
    """
    settings = _parse(argv)
    cached = cached_path(
        settings.name, rows=settings.rows, seed=settings.seed, cache_dir=settings.cache_dir
    )
    path = cached if settings.out is None else settings.out
    seconds = None
    if settings.out is None and path.is_file() and not settings.overwrite:
        sys.stderr.write("made before; --overwrite makes it again\n")
    else:
        _check(path, overwrite=settings.overwrite)
        if settings.out is None:
            cache_folder("made", path.parent)
        start = time.monotonic()
        with sigterm_as_exit():
            make_dataset(
                settings.name,
                path,
                rows=settings.rows,
                seed=settings.seed,
                workers=settings.workers,
                progress=True,
            )
        seconds = time.monotonic() - start
    sys.stderr.write(_summary(settings.name, path, seconds))
    sys.stdout.write(f"{path}\n")
    return 0


def _check(path: Path, *, overwrite: bool) -> None:
    """Check before recording that the file can be written afterwards."""
    if path.is_dir():
        raise UserError(f"--out: found {path}, which is a folder, expected a file to write.")
    if path.exists() and not overwrite:
        raise UserError(f"--out: {path} exists already; --overwrite replaces it.")


def _summary(name: str, path: Path, seconds: float | None) -> str:
    # It may have been made long ago.
    with open_hdf5(path) as file:
        timeouts, found = find_columns(file, ("timeouts", "rewards"), matrices=())
        ends, rewards = np.flatnonzero(timeouts.flags()) + 1, found.vector()
    if not len(rewards) == len(timeouts) > 0:
        raise UserError(f"{path} is damaged; --overwrite makes it again.")
    speed = "" if seconds is None else f", {len(rewards) / seconds:,.0f} rows/s"
    if isinstance(find_recipe(name), HalfCheetahRecipe):
        found_there = f"a return of {1000 * rewards.mean():,.0f} in 1,000 steps"
    else:
        touching = np.add.reduceat(rewards, np.append(0, ends[:-1])) > 0
        found_there = f"{touching.mean():.0%} of which touch the evaluation goal"
    return f"{len(rewards):,} rows in {len(ends):,} episodes, {found_there}{speed}\n{MADE_NOTE}\n"


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "data make",
        "Record a dataset on this machine, without a network, and print its path. AntMaze and "
        "HalfCheetah follow D4RL's recipes with policies of this package: comparable data, but not "
        "D4RL's files.",
    )
    parser.add_argument("name", type=str, metavar="NAME", help=f"One of {', '.join(RECIPES)}.")
    add_optional(parser, "--rows", int, "Number of rows; by default the recipe's.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of everything random.")
    add_optional(
        parser,
        "--out",
        Path,
        "File to write; by default one in --cache_dir, where runs with --data.source make find it.",
        metavar="FILE",
    )
    add_optional(
        parser,
        "--cache_dir",
        Path,
        "By default $XDG_CACHE_HOME/pex-lightning/made.",
        metavar="FOLDER",
    )
    add_optional(
        parser,
        "--workers",
        int,
        "Processes to record in; by default one for each processor. The data do not depend on it.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace a file that exists.")
    settings = parse(parser, argv)
    for key in ("out", "cache_dir"):
        if (folder := getattr(settings, key)) is not None:
            setattr(settings, key, Path(folder).expanduser())
    return settings
