"""D4RL's maze2d on today's MuJoCo: a point mass that is rewarded for staying at a fixed goal.

The body is gymnasium-robotics' `point.xml`, which has the masses, damping, friction and motors of
D4RL's model (Fu et al. 2020, arXiv 2004.07219). Walls, coordinates, starts and rewards are D4RL's.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Literal, Unpack

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

from pex_lightning.envs.maze_env import Drawing, MazeEnv, Observation, asset_path, drawing_metadata
from pex_lightning.envs.mazes import MAPS, START, Cell, Maze
from pex_lightning.errors import UserError

RewardType = Literal["sparse", "dense"]

MAX_SPEED = 5.0
"""Limit of each component of the velocity before a physics step, in metres per second."""

_CENTRE = -0.2
"""Coordinate of a wall's centre on either axis, less its row or column.

D4RL puts walls at row + 1 and column + 1 and the particle's joints at 1.2: the origin of the
observed position lies 0.2 beyond the centre of the first cell, and so do goals and starts from the
centres of theirs.
"""

_START_NOISE = 0.1
_WALL_HEIGHT = 0.4


class Maze2DMaze(Maze):
    """A maze in maze2d's coordinates: x grows with the row, y with the column; cells of 1 m."""

    def to_xy(self, cell: Cell) -> npt.NDArray[np.float64]:
        """Centre of a cell, `[2]` in metres."""
        return np.array(cell) * self.cell_size + _CENTRE

    def to_cell(self, xy: npt.ArrayLike) -> Cell:
        """The cell that holds the point `xy` (`[2]`, metres); it may lie outside the map."""
        offset = (np.asarray(xy, dtype=np.float64) - _CENTRE) / self.cell_size
        row, column = np.floor(offset + 0.5)
        return int(row), int(column)


_MAPS: Mapping[str, tuple[str, ...]] = {
    "open": ("1111111", "1000001", "100g001", "1000001", "1111111"),
    "umaze": ("11111", "1g001", "11101", "10001", "11111"),
    **{name: tuple(row.replace(START, "0") for row in MAPS[name]) for name in ("medium", "large")},
}


class Maze2DEnv(MazeEnv, EzPickle):
    """A point mass in D4RL's maze2d: 4 observations, 2 actions, 0.01 s per step, never over.

    Observation `[4]`: x, y (metres; x grows with the maze's row, y with its column), then their
    velocities. Action `[2]` in [-1, 1]: the force. The goal is fixed: D4RL's goal cell. An episode
    starts in any free cell (the goal's included), + U(-0.1, 0.1)^2, with velocity N(0, 0.1)^2. The
    reward of a step depends on where it ends: `sparse` is 1 within 0.5 m of the goal and 0
    elsewhere, `dense` is exp(-distance). `info["success"]` says on every step whether it ended
    within 0.5 m. Nothing but the time limit ends an episode.

    Args:
        maze: `open`, `umaze`, `medium` or `large`.
        reward_type: `sparse` or `dense`.
        drawing: How it is drawn.

    Raises:
        UserError: There is no such maze or reward, or gymnasium-robotics is not installed.
    """

    metadata = drawing_metadata(100)

    def __init__(
        self, maze: str = "umaze", *, reward_type: RewardType = "sparse", **drawing: Unpack[Drawing]
    ) -> None:
        EzPickle.__init__(self, maze, reward_type=reward_type, **drawing)
        if maze not in _MAPS:
            raise UserError(f"maze: found {maze!r}, expected one of {', '.join(_MAPS)}")
        if reward_type not in ("sparse", "dense"):
            raise UserError(f"reward_type: found {reward_type!r}, expected sparse or dense")
        self.reward_type = reward_type
        self._start: npt.NDArray[np.float64] = np.zeros(2)
        body = asset_path("gymnasium_robotics", "envs", "assets", "point", "point.xml")
        super().__init__(str(body), Maze2DMaze(_MAPS[maze], 1.0, _WALL_HEIGHT), 1, 0.5, **drawing)

    def step(  # type: ignore[override]
        self, action: npt.NDArray[np.floating[Any]]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one action for one physics step.

        Args:
            action: `[2]`; values outside [-1, 1] are clipped.

        Returns:
            Observation `[4]`, reward, terminated (only where the simulation blew up), truncated
            (always False), and info with `success`.

        Raises:
            ValueError: The action has the wrong shape or holds NaN or infinity.
        """
        observation, reward, _, truncated, info = super().step(action)
        blew_up = "physics_error" in info
        if self.reward_type == "dense" and not blew_up:
            reward = math.exp(-math.dist(self._qpos, self.goal))
        return observation, reward, blew_up, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options` are those of `MazeEnv.reset`.

        Raises:
            UserError: An option is unknown, is not a point, or lies in a wall.
        """
        observation, info = super().reset(seed=seed, options=options)
        if "start_xy" in (options or {}):
            # It takes the place of the cell that was drawn; `MazeEnv` adds it to an origin.
            self.set_state(self._qpos - self._start, self._qvel)
            observation = self._observe()
        return observation, info

    def reset_model(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        """Draw a start state; returns the observation `[4]`."""
        cells = self.maze.free_cells
        self._start = np.array(cells[self.np_random.integers(len(cells))], dtype=np.float64)
        noise = self.np_random.uniform(-_START_NOISE, _START_NOISE, 2)
        velocity = _START_NOISE * self.np_random.standard_normal(2)
        self.set_state(self._start + noise, velocity)
        return self._observe()

    def _draw_goal(self) -> npt.NDArray[np.float64]:
        return np.array(self.maze.goal_cell, dtype=np.float64)

    def _simulate(self, action: npt.NDArray[np.float64]) -> None:
        self._ctrl[:] = action
        self._qvel.clip(-MAX_SPEED, MAX_SPEED, out=self._qvel)
        mujoco.mj_step(self.model, self.data)

    def _edit_model(self, root: ET.Element) -> None:
        # Walls stand on the floor here and reach as far below the particle as above it in D4RL:
        # floor and particle are raised to the same height against them.
        middle = _WALL_HEIGHT / 2
        for body in root.iterfind("worldbody/body"):
            body.set("pos", f"0 0 {middle}")
        for floor in root.iterfind("worldbody/geom"):
            floor.set("pos", f"0 0 {middle - 0.1}")
