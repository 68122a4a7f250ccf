"""The plan of a maze: walls, starts and goals to draw and to compare data with."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pex_lightning.envs.make import make_env

Points = npt.NDArray[np.float64]

_RESETS = 64
_ROBOTICS_GOAL_RADIUS = 0.45


@dataclass(frozen=True)
class MazePlan:
    """Walls, starts and goals of a maze, in metres.

    Attributes:
        name: The environment's id.
        walls: [W, 2] centres of the wall cells.
        cell_size: Side length of a cell.
        starts: [K, 2] a sample of start positions of episodes.
        goals: [K, 2] goals of these episodes.
        goal_radius: Distance from the goal that counts as success.
    """

    name: str
    walls: Points
    cell_size: float
    starts: Points
    goals: Points
    goal_radius: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Outer edges of the walls (lowest x, highest x, lowest y, highest y)."""
        half = self.cell_size / 2
        (x_low, y_low), (x_high, y_high) = self.walls.min(axis=0), self.walls.max(axis=0)
        return x_low - half, x_high + half, y_low - half, y_high + half

    def share_in_walls(self, xy: npt.NDArray[np.floating[Any]]) -> float:
        """Compute the fraction of points `xy` ([N, 2], metres) in walls or outside the maze.

        Points that are not finite are ignored. Bodies sink slightly into walls that they press
        against; a large fraction means that the data are from another maze.
        """
        x_low, x_high, y_low, y_high = self.extent
        columns, rows = (
            round(length / self.cell_size) for length in (x_high - x_low, y_high - y_low)
        )
        # A border of one cell represents everything outside the maze.
        solid = np.ones((columns + 2, rows + 2), dtype=np.bool_)
        solid[1:-1, 1:-1] = False
        origin = np.array([x_low, y_low])
        walls = np.floor((self.walls - origin) / self.cell_size).astype(np.int64) + 1
        solid[walls[:, 0], walls[:, 1]] = True
        known = xy[np.isfinite(xy).all(axis=1)]
        cells = np.floor((known - origin) / self.cell_size).clip(-1, max(columns, rows)) + 1
        inside = cells.astype(np.int64).clip(0, (columns + 1, rows + 1))
        return float(solid[inside[:, 0], inside[:, 1]].mean()) if len(known) else 0.0


def maze_plan(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> MazePlan | None:
    """The maze of an environment, which is made by `make_env`; None if it has none."""
    with contextlib.closing(make_env(env_id, env_kwargs)) as env:
        body: Any = env.unwrapped
        walls = _walls(getattr(body, "maze", None))
        if walls is None:
            return None
        starts, goals = [], []
        for seed in range(_RESETS):
            observation, _ = env.reset(seed=seed)
            # Observations start with the position in this package's and gymnasium-robotics' mazes.
            starts.append(observation[:2])
            goals.append(np.array(body.goal[:2]))
        return MazePlan(
            name=env_id,
            walls=walls[0],
            cell_size=walls[1],
            starts=np.array(starts, dtype=np.float64),
            goals=np.array(goals, dtype=np.float64),
            goal_radius=float(getattr(body, "goal_radius", _ROBOTICS_GOAL_RADIUS)),
        )


def _walls(maze: Any) -> tuple[Points, float] | None:
    """Return centres [W, 2] and side of wall cells, for our and gymnasium-robotics' mazes."""
    if hasattr(maze, "wall_centres"):
        return np.asarray(maze.wall_centres, dtype=np.float64), float(maze.cell_size)
    if hasattr(maze, "maze_map") and hasattr(maze, "cell_rowcol_to_xy"):
        centres = [
            maze.cell_rowcol_to_xy(np.array([row, column]))
            for row, marks in enumerate(maze.maze_map)
            for column, mark in enumerate(marks)
            if mark == 1
        ]
        return np.array(centres, dtype=np.float64), float(maze.maze_size_scaling)
    return None
