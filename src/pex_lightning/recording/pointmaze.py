"""Recording of point maze episodes: noisy paths between random cells, with random detours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pex_lightning.envs.mazes import Cell, Maze
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.recording.episode import Columns, empty_maze_episode
from pex_lightning.recording.recipes import PointMazeRecipe

Array = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]


class PointMazeRecorder:
    """Records episodes of one recipe.

    Args:
        recipe: The recipe.
    """

    def __init__(self, recipe: PointMazeRecipe) -> None:
        self.recipe = recipe
        self.env = PointMazeEnv(recipe.maze)

    def record(self, rng: np.random.Generator, rows: int) -> Columns:
        """Record the first `rows` rows of an episode; `rng` is the only source of randomness."""
        episode = empty_maze_episode(rows, obs_dim=4, action_dim=2)
        controller = _Controller(self.recipe, self.env.maze, rng)
        self.env.set_state(controller.start, np.zeros(2))
        observation = np.concatenate((controller.start, np.zeros(2))).astype(np.float32)
        for row in range(rows):
            action = controller.act(observation)
            episode["observations"][row] = observation
            episode["actions"][row] = action
            episode["infos/goal"][row] = controller.goal
            observation = self.env.step(action)[0]
        return episode

    def close(self) -> None:
        """Free the simulation."""
        self.env.close()  # type: ignore[no-untyped-call]


class _Controller:
    """Controller that follows shortest paths to random goals, with a new goal at each arrival."""

    def __init__(self, recipe: PointMazeRecipe, maze: Maze, rng: np.random.Generator) -> None:
        self._recipe, self._maze, self._rng = recipe, maze, rng
        self._wander_left = 0
        self._wander_force = np.zeros(2)
        self._from: Cell = maze.free_cells[int(rng.integers(len(maze.free_cells)))]
        self.start: Array = self._jittered(self._from)
        self.goal: Array = self.start
        self._legs: list[tuple[Cell, Array]] = []
        self._plan_path()

    def act(self, observation: Vector) -> Vector:
        """Return the noisy, clipped action `[2]` for an observation `[4]`."""
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

    def _follow(self, position: Vector) -> None:
        """Drop a passed waypoint, and plan a new path after wandering to another cell."""
        cell, waypoint = self._legs[0]
        if np.hypot(*(waypoint - position)) < self._recipe.waypoint_radius:
            self._from = cell
            self._legs.pop(0)
            if not self._legs:
                self._plan_path()
            return
        here = self._maze.to_cell(position)
        if here not in (self._from, cell) and self._maze.is_free(here):
            goal_cell = self._legs[-1][0]
            self._from = here
            path = self._maze.shortest_path(here, goal_cell)
            self._legs = [(step, self._jittered(step)) for step in path[1:-1]]
            self._legs.append((goal_cell, self.goal))

    def _plan_path(self) -> None:
        """Draw a goal cell within `max_path_cells` and set waypoints to it."""
        paths = [self._maze.shortest_path(self._from, cell) for cell in self._maze.free_cells]
        longest = self._recipe.max_path_cells
        near = [path for path in paths if 1 < len(path) <= longest + 1]
        path = near[int(self._rng.integers(len(near)))]
        self._legs = [(cell, self._jittered(cell)) for cell in path[1:]]
        self.goal = self._legs[-1][1]

    def _jittered(self, cell: Cell) -> Array:
        jitter = self._recipe.waypoint_jitter
        return self._maze.to_xy(cell) + self._rng.uniform(-jitter, jitter, 2)
