"""Recipes: names and settings of the datasets that this package can record.

AntMaze follows D4RL (Fu et al. 2020, arXiv 2004.07219): a policy that walks in a given direction is
steered along the shortest path of cells to a goal, with noise on every action. The walking policy,
its gain and the handling of a stuck robot are this package's own. HalfCheetah follows the recipe of
D4RL's halfcheetah-medium: a policy trained by SAC to about a third of the expert's return samples
its actions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pex_lightning.envs.mazes import MAPS, Cell, Maze
from pex_lightning.errors import UserError


@dataclass(frozen=True)
class PointMazeRecipe:
    """Settings of a point maze dataset.

    Attributes:
        env_id: Environment of the evaluation task.
        maze: Name of its maze.
        version: Number to raise with every change of the data; part of cached files' names.
        rows: Default number of rows.
        episode_steps: Environment steps per episode. Short episodes require stitching.
        max_path_cells: Longest path, in cells, from an episode's start to its goal.
        waypoint_jitter: Largest distance of a waypoint from the cell's centre, per axis, in metres.
        waypoint_radius: Distance at which a waypoint counts as passed, in metres.
        speed: Target speed of the controller, in metres per second.
        gain: Force per metre-per-second of velocity error.
        action_noise: Standard deviation of the Gaussian noise on every action.
        wander_probability: Probability per step to start wandering, with one random force.
        wander_steps: Duration of wandering, in environment steps.
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

    @property
    def episode_rows(self) -> int:
        """Rows of an episode, with one for the observation after the last step."""
        return self.episode_steps + 1


@dataclass(frozen=True)
class AntMazeRecipe:
    """Settings of an AntMaze dataset.

    Attributes:
        env_id: Environment of the evaluation task.
        maze: Name of its maze.
        start_cells: Possible start cells of an episode, as (row, column).
        goal_cells: Possible goal cells of an episode, as (row, column).
        start_jitter: The start is the cell's centre + U(0, start_jitter) per axis, in metres, plus
            the environment's own noise.
        episode_steps: Environment steps per episode; an episode has one row more.
        version: Number to raise with every change of the data; part of cached files' names.
        rows: Default number of rows.
        waypoint_jitter: A waypoint is the next cell's centre + U(0, waypoint_jitter) per axis, in
            metres, drawn at every step.
        walker_gain: Factor of the walker's action; below 1, the ant falls less and walks slower.
        action_noise: Standard deviation of the Gaussian noise on every action.
        stuck_steps: A robot that moved less than `stuck_distance` in so many steps is stuck.
        stuck_distance: Distance for `stuck_steps`, in metres.
        back_off_steps: Number of steps in which a stuck robot walks to the centre of its cell.
        back_off_jitter: This target is the centre + U(0, back_off_jitter) per axis, in metres.
        arrival_radius: Within this distance of its goal, a robot is never stuck, in metres.
    """

    env_id: str
    maze: str
    start_cells: tuple[Cell, ...]
    goal_cells: tuple[Cell, ...]
    start_jitter: float
    episode_steps: int
    version: int = 1
    rows: int = 1_000_000
    waypoint_jitter: float = 1.0
    walker_gain: float = 0.92
    action_noise: float = 0.2
    stuck_steps: int = 20
    stuck_distance: float = 0.5
    back_off_steps: int = 20
    back_off_jitter: float = 1.0
    arrival_radius: float = 1.0

    @property
    def episode_rows(self) -> int:
        """Rows of an episode, with one for the observation after the last step."""
        return self.episode_steps + 1


@dataclass(frozen=True)
class HalfCheetahRecipe:
    """Settings of a HalfCheetah dataset.

    Attributes:
        env_id: Environment of the evaluation task.
        episode_steps: Environment steps per episode, each of which is a row.
        version: Number to raise with every change of the data; part of cached files' names.
        rows: Default number of rows.
    """

    env_id: str
    episode_steps: int
    version: int
    rows: int

    @property
    def episode_rows(self) -> int:
        """Rows of an episode; none is left for the observation after the last step, as in D4RL."""
        return self.episode_steps


Recipe = PointMazeRecipe | AntMazeRecipe | HalfCheetahRecipe

_FREE_CELLS = {name: Maze(rows, 4.0, 2.0).free_cells for name, rows in MAPS.items()}
_PLAY_GOALS: Mapping[str, tuple[Cell, ...]] = {
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}


def _anywhere(maze: str, env: str, steps: int, goals: tuple[Cell, ...]) -> AntMazeRecipe:
    """An AntMaze recipe with starts in all free cells."""
    return AntMazeRecipe(
        env_id=f"pex_lightning/AntMaze-{env}-v0",
        maze=maze,
        start_cells=_FREE_CELLS[maze],
        goal_cells=goals,
        start_jitter=1.0,
        episode_steps=steps,
    )


RECIPES: Mapping[str, Recipe] = {
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
    "antmaze-umaze": AntMazeRecipe(
        env_id="pex_lightning/AntMaze-UMaze-v0",
        maze="umaze",
        start_cells=((1, 1),),
        goal_cells=((3, 1),),
        start_jitter=0.0,
        episode_steps=700,
    ),
    "antmaze-umaze-diverse": _anywhere("umaze", "UMaze", 700, _FREE_CELLS["umaze"]),
    "antmaze-medium-play": _anywhere("medium", "Medium", 1000, _PLAY_GOALS["medium"]),
    "antmaze-medium-diverse": _anywhere("medium", "Medium", 1000, _FREE_CELLS["medium"]),
    "antmaze-large-play": _anywhere("large", "Large", 1000, _PLAY_GOALS["large"]),
    "antmaze-large-diverse": _anywhere("large", "Large", 1000, _FREE_CELLS["large"]),
    "halfcheetah-medium": HalfCheetahRecipe(
        env_id="HalfCheetah-v4", episode_steps=1000, version=1, rows=1_000_000
    ),
}
"""Recipes by name."""


def find_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises:
        UserError: There is no such recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    unversioned = re.sub(r"-v\d+$", "", name)
    if unversioned in RECIPES:
        raise UserError(
            f"dataset: found {name!r}, the name of D4RL's published dataset, which 'pex-lightning "
            f"data fetch {name}' downloads; 'pex-lightning data make {unversioned}' records one "
            f"like it here, expected without a version."
        )
    # Prefixes first: edit distance may prefer another environment to an incomplete name.
    close = [known for known in RECIPES if known.startswith(name)] if name else []
    close = close or difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise UserError(f"dataset: found {name!r}, expected one of {', '.join(RECIPES)}{hint}")
