"""Datasets that the package makes itself, so that a first run needs no download.

A waypoint controller drives the point mass along shortest paths between random cells, noisily,
and the rows are written the way D4RL wrote AntMaze (Fu et al. 2020, arXiv 2004.07219): recorded
without a task, then labelled from the one goal of the evaluation task. Few episodes reach that
goal, none from the task's start, so that the way there has to be put together from several.
"""

import contextlib
import difflib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pex_lightning.envs.mazes import Cell, Maze
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.errors import UserError
from pex_lightning.version import __version__

Array = npt.NDArray[np.float64]
Rows = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class PointMazeRecipe:
    """How a point maze dataset is recorded.

    Attributes:
        env_id: Environment of the evaluation task.
        maze: Name of its maze.
        version: Raise it with every change that alters the data; cached files carry it.
        rows: Default number of rows.
        episode_steps: Environment steps per episode. Short ones make it necessary to stitch.
        max_path_cells: Longest path, in cells, from an episode's start to its goal.
        waypoint_jitter: Waypoints lie within this distance of a cell's centre on each axis, in
            metres.
        waypoint_radius: Distance at which a waypoint counts as passed, in metres.
        speed: Speed the controller aims for, in metres per second.
        gain: Force per metre-per-second of velocity error.
        action_noise: Standard deviation of the Gaussian noise on every action.
        wander_probability: Chance per step that the controller begins to wander.
        wander_steps: Environment steps for which it then holds one random force.
    """

    env_id: str
    maze: str
    version: int
    rows: int
    episode_steps: int
    max_path_cells: int
    waypoint_jitter: float
    waypoint_radius: float
    speed: float
    gain: float
    action_noise: float
    wander_probability: float
    wander_steps: int


RECIPES: Mapping[str, PointMazeRecipe] = {
    "pointmaze-medium": PointMazeRecipe(
        env_id="pex_lightning/PointMaze-Medium-v0",
        maze="medium",
        version=2,
        rows=80_000,
        episode_steps=60,
        max_path_cells=7,
        waypoint_jitter=0.25,
        waypoint_radius=0.3,
        speed=2.0,
        gain=0.4,
        action_noise=0.3,
        wander_probability=0.02,
        wander_steps=10,
    ),
}
"""Datasets that can be made, by name."""


def make_dataset(
    name: str, path: Path, *, rows: int | None = None, seed: int = 0, progress: bool = False
) -> None:
    """Make a dataset and write it to `path` in D4RL's HDF5 layout.

    Keys: `observations` `[rows, 4]`, `actions` `[rows, 2]` as executed, `rewards`, `terminals`,
    `timeouts` `[rows]`, `infos/goal` `[rows, 2]` (where the controller was heading). Row i has
    reward 1 and `terminals` set if row i + 1 lies within the radius of the evaluation goal and
    belongs to the same episode; every episode's last row has `timeouts` set. The attributes say
    how the file was made. The same arguments give the same bytes (with the same versions of this
    package, NumPy, MuJoCo and HDF5).

    The file is written aside and then renamed, so that it is complete or absent.

    Args:
        name: A key of `RECIPES`.
        path: The file to write; one that exists is replaced.
        rows: Number of rows; None takes the recipe's.
        seed: Seed of everything random.
        progress: Show progress on stderr.

    Raises:
        UserError: The name is unknown, the number of rows or the seed is out of range, or the
            directory cannot be written to.
    """
    recipe = _recipe(name)
    count = _checked_rows(rows, recipe)
    if seed < 0:
        raise UserError(f"seed: found {seed}, expected 0 or more")
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
    with _written_aside(path) as aside:
        env = PointMazeEnv(recipe.maze)
        attributes["goal_radius"] = env.goal_radius
        target = env.maze.to_xy(env.maze.goal_cell)
        data = _record(env, recipe, count, seed, progress=progress)
        _label(data, target, env.goal_radius)
        with h5py.File(aside, "w") as file:
            file.attrs["target_goal"] = target
            for key, value in attributes.items():
                file.attrs[key] = value
            for key, column in data.items():
                file.create_dataset(key, data=column, compression="gzip", track_times=False)


def cached_dataset(
    name: str,
    *,
    rows: int | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
    progress: bool = False,
) -> Path:
    """Path of a made dataset, which is made first if it is absent.

    The file's name holds everything that its content depends on, the recipe's version included.

    Args:
        name: A key of `RECIPES`.
        rows: Number of rows; None takes the recipe's.
        seed: Seed of everything random.
        cache_dir: Folder of the files; None takes `$XDG_CACHE_HOME/pex-lightning/datasets`, with
            `~/.cache` where the variable is unset.
        progress: Show progress on stderr while the file is made.

    Raises:
        UserError: As for `make_dataset`.
    """
    recipe = _recipe(name)
    count = _checked_rows(rows, recipe)
    if cache_dir is None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache_dir = Path(root) / "pex-lightning" / "datasets"
    path = cache_dir / f"{name}-rows{count}-seed{seed}-v{recipe.version}.hdf5"
    if not path.is_file():
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"dataset cache {cache_dir}: could not be created ({error.strerror}); set "
                "XDG_CACHE_HOME to a folder that can be written to"
            ) from error
        make_dataset(name, path, rows=count, seed=seed, progress=progress)
    return path


def _recipe(name: str) -> PointMazeRecipe:
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UserError(f"dataset: found {name!r}, expected one of {', '.join(RECIPES)}{hint}")


def _checked_rows(rows: int | None, recipe: PointMazeRecipe) -> int:
    count = recipe.rows if rows is None else rows
    if count < 2:
        raise UserError(f"rows: found {count}, expected 2 or more")
    return count


@contextlib.contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place on success and vanishes otherwise."""
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise UserError(
            f"{path}: found that {path.parent} cannot be written to ({error.strerror}), expected a "
            "folder that exists and is writable"
        ) from error
    os.close(handle)
    try:
        yield Path(aside)
        # A private mode is right for a temporary file, not for the result.
        umask = os.umask(0)
        os.umask(umask)
        Path(aside).chmod(0o666 & ~umask)
        Path(aside).replace(path)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error})") from error
    finally:
        Path(aside).unlink(missing_ok=True)


def _record(
    env: PointMazeEnv, recipe: PointMazeRecipe, rows: int, seed: int, *, progress: bool
) -> Rows:
    """Record `rows` rows, without rewards and terminals."""
    observations = np.zeros((rows, 4), np.float32)
    actions = np.zeros((rows, 2), np.float32)
    goals = np.zeros((rows, 2), np.float32)
    timeouts = np.zeros(rows, np.bool_)
    length = recipe.episode_steps + 1
    for episode, first in enumerate(range(0, rows, length)):
        # A generator per episode: a longer dataset begins with the rows of a shorter one.
        rng = np.random.default_rng((seed, episode))
        controller = _Controller(recipe, env.maze, rng)
        env.set_state(controller.start, np.zeros(2))
        observation = np.concatenate((controller.start, np.zeros(2))).astype(np.float32)
        last = min(first + length, rows) - 1
        for row in range(first, last + 1):
            action = controller.act(observation)
            observations[row], actions[row], goals[row] = observation, action, controller.goal
            observation = env.step(action)[0]
        timeouts[last] = True
        if progress:
            sys.stderr.write(f"\rrecording: {last + 1:,} of {rows:,} rows")
    if progress:
        sys.stderr.write("\n")
    return {
        "observations": observations,
        "actions": actions,
        "timeouts": timeouts,
        "infos/goal": goals,
    }


def _label(data: Rows, target: Array, radius: float) -> None:
    """Add `rewards` and `terminals`: whether the next row lies within `radius` of `target`."""
    distance = np.linalg.norm(data["observations"][1:, :2] - target, axis=1)
    reached = np.append(distance <= radius, np.False_) & ~data["timeouts"]
    data["rewards"] = reached.astype(np.float32)
    data["terminals"] = reached


class _Controller:
    """Steers along shortest paths to random goals, drawing a new goal at each arrival."""

    def __init__(self, recipe: PointMazeRecipe, maze: Maze, rng: np.random.Generator) -> None:
        self._recipe, self._maze, self._rng = recipe, maze, rng
        self._wander_left = 0
        self._wander_force = np.zeros(2)
        self._from: Cell = maze.free_cells[int(rng.integers(len(maze.free_cells)))]
        self.start: Array = self._jittered(self._from)
        self.goal: Array = self.start
        self._legs: list[tuple[Cell, Array]] = []
        self._set_out()

    def act(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Action `[2]` for an observation `[4]`, noise and clipping included."""
        recipe, rng = self._recipe, self._rng
        position, velocity = observation[:2], observation[2:]
        self._follow(position)
        if self._wander_left == 0 and rng.random() < recipe.wander_probability:
            self._wander_left = recipe.wander_steps
            self._wander_force = rng.uniform(-1.0, 1.0, 2)
        if self._wander_left > 0:
            self._wander_left -= 1
            force = self._wander_force
        else:
            offset = self._legs[0][1] - position
            wanted = offset * (recipe.speed / max(float(np.hypot(*offset)), 1e-6))
            force = recipe.gain * (wanted - velocity)
        noisy = force + recipe.action_noise * rng.standard_normal(2)
        return np.asarray(noisy.clip(-1.0, 1.0), dtype=np.float32)

    def _follow(self, position: npt.NDArray[np.float32]) -> None:
        """Drop a waypoint that was passed; plan anew where wandering led off the path."""
        cell, waypoint = self._legs[0]
        if np.hypot(*(waypoint - position)) < self._recipe.waypoint_radius:
            self._from = cell
            self._legs.pop(0)
            if not self._legs:
                self._set_out()
            return
        here = self._maze.to_cell(position)
        if here not in (self._from, cell) and self._maze.is_free(here):
            goal_cell = self._legs[-1][0]
            self._from = here
            path = self._maze.shortest_path(here, goal_cell)
            self._legs = [(step, self._jittered(step)) for step in path[1:-1]]
            self._legs.append((goal_cell, self.goal))

    def _set_out(self) -> None:
        """Draw a goal cell within reach and lay waypoints to it."""
        paths = [self._maze.shortest_path(self._from, cell) for cell in self._maze.free_cells]
        longest = self._recipe.max_path_cells
        near = [path for path in paths if 1 < len(path) <= longest + 1]
        path = near[int(self._rng.integers(len(near)))]
        self._legs = [(cell, self._jittered(cell)) for cell in path[1:]]
        self.goal = self._legs[-1][1]

    def _jittered(self, cell: Cell) -> Array:
        jitter = self._recipe.waypoint_jitter
        return self._maze.to_xy(cell) + self._rng.uniform(-jitter, jitter, 2)
