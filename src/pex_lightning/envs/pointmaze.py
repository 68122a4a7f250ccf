"""A point mass in a maze: AntMaze's task with a body that is quick to simulate and to learn.

The body is gymnasium-robotics' point mass (its `point.xml`), driven by forces, its velocity
limited to 5 m/s.
"""

from typing import Unpack

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

from pex_lightning.envs.maze_env import Drawing, MazeEnv, asset_path, drawing_metadata, named_maze

MAX_SPEED = 5.0
"""Limit of each component of the velocity before a physics step, in metres per second."""

_START_NOISE = 0.25


class PointMazeEnv(MazeEnv, EzPickle):
    """A point mass in a maze of cells of 1 m: 4 observations, 2 actions, 0.05 s per step.

    Observation `[4]`: x, y (metres), then their velocities. Action `[2]` in [-1, 1]: the force.
    The goal of an episode is the goal cell's centre + U(-goal_noise, goal_noise)^2; by default it
    lies anywhere in the cell that the point can reach. The observation does not show it. The start
    is the start cell's centre + U(-0.25, 0.25)^2, at rest. One step is five of gymnasium-robotics'
    with the same action.

    Args:
        maze: `umaze`, `medium` or `large`.
        goal_radius: Distance from the goal that counts as success, in metres.
        goal_noise: How far the goal may lie from its cell's centre on each axis, in metres.
        drawing: How it is drawn.

    Raises:
        UserError: There is no such maze, or gymnasium-robotics is not installed.
    """

    metadata = drawing_metadata(20)

    def __init__(
        self,
        maze: str = "medium",
        *,
        goal_radius: float = 0.5,
        goal_noise: float = 0.4,
        **drawing: Unpack[Drawing],
    ) -> None:
        EzPickle.__init__(self, maze, goal_radius=goal_radius, goal_noise=goal_noise, **drawing)
        self.goal_noise = goal_noise
        geometry = named_maze(maze, cell_size=1.0, wall_height=0.4)
        body = asset_path("gymnasium_robotics", "envs", "assets", "point", "point.xml")
        super().__init__(str(body), geometry, 5, goal_radius, **drawing)

    def reset_model(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        """Draw a start state; returns the observation `[4]`."""
        qpos = self.init_qpos + self.np_random.uniform(-_START_NOISE, _START_NOISE, 2)
        self.set_state(qpos, np.zeros(2))
        return self._observe()

    def _draw_goal(self) -> npt.NDArray[np.float64]:
        return super()._draw_goal() + self.np_random.uniform(-self.goal_noise, self.goal_noise, 2)

    def _simulate(self, action: npt.NDArray[np.float64]) -> None:
        self._ctrl[:] = action
        for _ in range(self.frame_skip):
            self._qvel.clip(-MAX_SPEED, MAX_SPEED, out=self._qvel)
            mujoco.mj_step(self.model, self.data)
