"""Recording of AntMaze episodes: a walker follows the shortest path of cells to a goal."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from pex_lightning.envs.antmaze import AntMazeEnv
from pex_lightning.envs.mazes import Cell, Maze
from pex_lightning.recording.episode import Columns, empty_maze_episode
from pex_lightning.recording.recipes import AntMazeRecipe
from pex_lightning.recording.walker import Walker

Array = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]

_START_NOISE = 0.1
_QPOS_DIM, _QVEL_DIM, _ACTION_DIM = 15, 14, 8


class AntMazeRecorder:
    """Records episodes of one recipe.

    Args:
        recipe: The recipe.
        walker: The policy that moves the ant; by default the one included in the package.
    """

    def __init__(self, recipe: AntMazeRecipe, walker: Walker | None = None) -> None:
        self.recipe = recipe
        self.env = AntMazeEnv(recipe.maze)
        self._walker = Walker() if walker is None else walker
        self._router = Router(self.env.maze)

    def record(self, rng: np.random.Generator, rows: int) -> Columns:
        """Record the first `rows` rows of an episode; `rng` is the only source of randomness."""
        recipe = self.recipe
        start = _draw_cell(recipe.start_cells, self.env.maze, rng)
        start = start + recipe.start_jitter * rng.uniform(0.0, 1.0, 2)
        goal = _draw_cell(recipe.goal_cells, self.env.maze, rng)
        goal = goal + rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2)
        episode = empty_maze_episode(rows, _QPOS_DIM + _QVEL_DIM, _ACTION_DIM)
        episode["infos/goal"][:] = goal
        steering = Steering(recipe, self._router, goal, rng)
        observation = self._stand(start, rng)
        for row in range(rows):
            episode["observations"][row] = observation
            action = self._act(observation, steering, rng)
            episode["actions"][row] = action
            observation, *_, info = self.env.step(action)
            if "physics_error" in info:
                # Not seen so far. Continue from rest, so that one bad step does not lose all rows.
                self.env.set_state(observation[:_QPOS_DIM], np.zeros(_QVEL_DIM))
                observation[_QPOS_DIM:] = 0.0
        return episode

    def reaches_goal(self, rng: np.random.Generator) -> tuple[bool, int]:
        """Try the evaluation task: walk from start cell to goal cell within the time limit.

        Returns:
            Whether the ant reached the goal, and the number of steps.
        """
        goal = self.env.maze.to_xy(self.env.maze.goal_cell)
        goal = goal + rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2)
        steering = Steering(self.recipe, self._router, goal, rng)
        observation = self._stand(self.env.maze.to_xy(self.env.maze.start_cell), rng)
        self.env.goal = goal
        for step in range(self.recipe.episode_steps):
            action = self._act(observation, steering, rng)
            observation, _, terminated, _, info = self.env.step(action)
            if terminated:
                return bool(info["success"]), step + 1
        return False, self.recipe.episode_steps

    def close(self) -> None:
        """Free the simulation."""
        self.env.close()  # type: ignore[no-untyped-call]

    def _stand(self, start: Array, rng: np.random.Generator) -> Vector:
        """Put the ant at `start` `[2]` with the environment's noise and return the observation."""
        qpos = self.env.init_qpos + rng.uniform(-_START_NOISE, _START_NOISE, _QPOS_DIM)
        qpos[:2] += start
        qvel = _START_NOISE * rng.standard_normal(_QVEL_DIM)
        self.env.set_state(qpos, qvel)
        return np.concatenate((qpos, qvel), dtype=np.float32, casting="same_kind")

    def _act(self, observation: Vector, steering: Steering, rng: np.random.Generator) -> Vector:
        """Return the walker's action `[8]` with noise, clipped to [-1, 1]."""
        heading = steering.heading(observation)
        seen = np.concatenate((observation[2:], heading), dtype=np.float32, casting="same_kind")
        action = self.recipe.walker_gain * self._walker(seen)
        noise = self.recipe.action_noise * rng.standard_normal(_ACTION_DIM)
        return np.asarray((action + noise).clip(-1.0, 1.0), dtype=np.float32)


class Steering:
    """Chooses the walking direction at every step of one episode.

    Args:
        recipe: The settings.
        router: Shortest paths of the maze.
        goal: `[2]`, in metres, in a free cell.
        rng: Source of the jitter.
    """

    def __init__(
        self, recipe: AntMazeRecipe, router: Router, goal: Array, rng: np.random.Generator
    ) -> None:
        self._recipe, self._router, self._rng = recipe, router, rng
        self._goal = goal
        self._goal_cell = router.maze.to_cell(goal)
        self._cell = self._goal_cell
        self._trail: deque[Array] = deque(maxlen=recipe.stuck_steps + 1)
        self._back_off_left = 0
        self._back_off_to = goal

    def heading(self, observation: Vector) -> Array:
        """Return the walking direction as a unit vector `[2]`."""
        position = observation[:2].astype(np.float64)
        cell = self._router.maze.to_cell(position)
        # The torso can briefly be above a wall; the last free cell is used then.
        self._cell = cell if self._router.maze.is_free(cell) else self._cell
        # Drawn even if unused, so that every step draws equally many numbers.
        jitter = self._rng.uniform(0.0, 1.0, (2, 2))
        if self._back_off_left == 0 and self._is_stuck(position, observation):
            self._back_off_left = self._recipe.back_off_steps
            middle = self._router.maze.to_xy(self._cell)
            self._back_off_to = middle + self._recipe.back_off_jitter * jitter[1]
            self._trail.clear()
        if self._back_off_left > 0:
            self._back_off_left -= 1
            offset = self._back_off_to - position
        else:
            offset = self._waypoint(jitter[0]) - position
        heading: Array = offset / max(float(np.hypot(*offset)), 1e-6)
        return heading

    def _waypoint(self, jitter: Array) -> Array:
        following = self._router.next_cell(self._cell, self._goal_cell)
        if following == self._goal_cell:
            return self._goal
        return self._router.maze.to_xy(following) + self._recipe.waypoint_jitter * jitter

    def _is_stuck(self, position: Array, observation: Vector) -> bool:
        """Return whether the ant is upright and away from its goal but does not move forward."""
        self._trail.append(position)
        if len(self._trail) < self._recipe.stuck_steps + 1:
            return False
        if np.hypot(*(position - self._goal)) <= self._recipe.arrival_radius:
            return False
        moved = float(np.hypot(*(position - self._trail[0])))
        return moved < self._recipe.stuck_distance and _upright(observation)


class Router:
    """Looks up next cells on shortest paths and caches them."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        self._next: dict[tuple[Cell, Cell], Cell] = {}

    def next_cell(self, cell: Cell, goal: Cell) -> Cell:
        """Return the cell after `cell` on the shortest path to `goal`; `goal` if they are equal."""
        key = (cell, goal)
        if key not in self._next:
            self._next[key] = self.maze.shortest_path(cell, goal)[:2][-1]
        return self._next[key]


def _draw_cell(cells: tuple[Cell, ...], maze: Maze, rng: np.random.Generator) -> Array:
    return maze.to_xy(cells[int(rng.integers(len(cells)))])


def _upright(observation: Vector) -> bool:
    """Return whether the torso's axis points up, from the quaternion (w, x, y, z) at 3:7."""
    x, y = float(observation[4]), float(observation[5])
    return 2.0 * (x * x + y * y) < 1.0
