"""D4RL's AntMaze on today's MuJoCo: what was recorded with the old one can be fine-tuned on here.

The published AntMaze datasets (Fu et al. 2020, arXiv 2004.07219) were recorded with another ant
than gymnasium's: a step of 5 x 0.02 s instead of 5 x 0.01 s, torques up to 30 instead of 150, and
stiffer contacts. Masses, joints and friction are the same, so the model is gymnasium's `ant.xml`
with those changes and D4RL's walls.
"""

import xml.etree.ElementTree as ET
from typing import Unpack

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

from pex_lightning.envs.maze_env import Drawing, MazeEnv, drawing_metadata, named_maze

_TIME_STEP = "0.02"
_MAX_TORQUE = 30.0
_SOLIMP = ".8 .8 .01"
_START_NOISE = 0.1


class AntMazeEnv(MazeEnv, EzPickle):
    """An ant in D4RL's maze: 29 observations, 8 actions, 0.1 s per step, reward 0 or 1.

    Observation `[29]`: x, y, z (metres), quaternion (4), joint angles (8, radians), then the 14
    velocities. Action `[8]` in [-1, 1], scaled to torques of +-30. The goal of an episode is the
    goal cell's centre + U(0, 1)^2 + U(0, 0.5)^2, as in D4RL's `v2` tasks. Start: the start cell,
    every position + U(-0.1, 0.1), every velocity N(0, 0.1).

    Args:
        maze: `umaze`, `medium` or `large`.
        goal_radius: Distance from the goal that counts as success, in metres.
        drawing: How it is drawn.

    Raises:
        UserError: There is no such maze.
    """

    metadata = drawing_metadata(10)

    def __init__(
        self, maze: str = "umaze", *, goal_radius: float = 0.5, **drawing: Unpack[Drawing]
    ) -> None:
        EzPickle.__init__(self, maze, goal_radius=goal_radius, **drawing)
        geometry = named_maze(maze, cell_size=4.0, wall_height=2.0)
        super().__init__("ant.xml", geometry, 5, goal_radius, **drawing)

    def reset_model(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        """Draw a start state; returns the observation `[29]`."""
        noise = self.np_random.uniform(-_START_NOISE, _START_NOISE, self.model.nq)
        velocity = _START_NOISE * self.np_random.standard_normal(self.model.nv)
        self.set_state(self.init_qpos + noise, velocity)
        return self._observe()

    def _simulate(self, action: npt.NDArray[np.float64]) -> None:
        self._ctrl[:] = action * _MAX_TORQUE
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)

    def _draw_goal(self) -> npt.NDArray[np.float64]:
        wide = self.np_random.uniform(0.0, 1.0, 2)
        narrow = self.np_random.uniform(0.0, 0.5, 2)
        return super()._draw_goal() + wide + narrow

    def _edit_model(self, root: ET.Element) -> None:
        for option in root.iterfind("option"):
            option.set("timestep", _TIME_STEP)
        for geom in root.iterfind("default/geom"):
            geom.set("solimp", _SOLIMP)
        for motor in root.iterfind("actuator/motor"):
            motor.set("gear", "1")
            motor.set("ctrlrange", f"{-_MAX_TORQUE} {_MAX_TORQUE}")
