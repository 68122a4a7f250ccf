"""What the maze environments share: walls in the MuJoCo model, goal, reward, resets, safety."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv

from pex_lightning.envs.mazes import MAPS, Maze
from pex_lightning.errors import UserError

Observation = npt.NDArray[np.float32]

_RESET_OPTIONS = ("goal_xy", "start_xy")
_PHYSICS_WARNINGS = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class Drawing(TypedDict, total=False):
    """Arguments of every maze environment that say how it is drawn.

    Attributes:
        render_mode: None, or one of `metadata["render_modes"]`.
        width: Width of the drawing in pixels, 480 by default.
        height: Height of the drawing in pixels, 480 by default.
    """

    render_mode: str | None
    width: int
    height: int


def drawing_metadata(steps_per_second: int) -> dict[str, Any]:
    """The `metadata` of an environment that is drawn at this rate."""
    modes = ["human", "rgb_array", "depth_array", "rgbd_tuple"]
    return {"render_modes": modes, "render_fps": steps_per_second}


def named_maze(name: str, cell_size: float, wall_height: float) -> Maze:
    """The D4RL maze called `name`, at the given scale.

    Args:
        name: A key of `MAPS`.
        cell_size: Side of a cell in metres.
        wall_height: Height of the walls in metres.

    Raises:
        UserError: There is no such maze.
    """
    if name not in MAPS:
        raise UserError(f"maze: found {name!r}, expected one of {', '.join(MAPS)}")
    return Maze(MAPS[name], cell_size, wall_height)


class MazeEnv(MujocoEnv):
    """A body in a walled maze that is rewarded once, for coming close to a goal.

    The observation is `qpos` followed by `qvel` (float32, `[obs_dim]`); the goal is not in it.
    The reward is 1 on the step that ends within `goal_radius` of the goal, which terminates the
    episode, and 0 before. `info["success"]` says on every step whether that happened.

    Should the simulation blow up (MuJoCo finds a bad position, velocity or acceleration), the
    episode terminates with reward 0, `info["physics_error"]` is true, and the observation is the
    last good one.

    Attributes:
        maze: Geometry of the maze.
        goal: Goal of the running episode, `[2]` in metres. Until the first reset, the centre of
            the goal cell.
        goal_radius: Distance from the goal that counts as success, in metres.
    """

    def __init__(
        self,
        model_path: str,
        maze: Maze,
        frame_skip: int,
        goal_radius: float,
        *,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        self.maze = maze
        self.goal_radius = goal_radius
        self.goal: npt.NDArray[np.float64] = maze.to_xy(maze.goal_cell)
        x_low, x_high, y_low, y_high = maze.extent
        camera: dict[str, Any] = {
            "lookat": np.array([(x_low + x_high) / 2, (y_low + y_high) / 2, 0.0]),
            "distance": 1.3 * max(x_high - x_low, y_high - y_low),
            "elevation": -75.0,
        }
        super().__init__(
            model_path, frame_skip, None, render_mode, width, height, default_camera_config=camera
        )
        # These arrays are views of MuJoCo's memory; asking for them anew on every step is slow.
        self._qpos: npt.NDArray[np.float64] = self.data.qpos
        self._qvel: npt.NDArray[np.float64] = self.data.qvel
        self._ctrl: npt.NDArray[np.float64] = self.data.ctrl
        self._goal_site: int = self.model.site("goal").id
        self._last_observation = self._observe()
        self.observation_space = spaces.Box(-np.inf, np.inf, self._last_observation.shape)

    @property
    def maze_map(self) -> tuple[str, ...]:
        """The maze's rows, one character per cell; see `Maze.rows`."""
        return self.maze.rows

    def step(  # type: ignore[override]
        self, action: npt.NDArray[np.floating[Any]]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one action for `frame_skip` physics steps.

        Args:
            action: `[action_dim]`; values outside [-1, 1] are clipped.

        Returns:
            Observation `[obs_dim]`, reward, terminated, truncated (always False: the time limit
            is gymnasium's `TimeLimit`), and info with `success`.

        Raises:
            ValueError: The action has the wrong shape or holds NaN or infinity.
        """
        given = np.asarray(action, dtype=np.float64)
        if given.shape != self._ctrl.shape:
            raise ValueError(f"expected an action of shape {self._ctrl.shape}, found {given.shape}")
        if not np.isfinite(given).all():
            raise ValueError(f"expected a finite action, found {given}")
        self._simulate(given.clip(-1.0, 1.0))
        if self._blew_up():
            info = {"success": False, "physics_error": True}
            return self._last_observation.copy(), 0.0, True, False, info
        self._last_observation = observation = self._observe()
        success = self._at_goal()
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return observation.copy(), float(success), success, False, {"success": success}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment's generator; None goes on with the present one.
            options: `goal_xy` (`[2]`, metres) is this episode's goal, exactly; `start_xy`
                (`[2]`, metres) takes the place of the start cell's centre, noise is still added.

        Returns:
            Observation `[obs_dim]` and info with this episode's `goal`, `[2]` in metres.

        Raises:
            UserError: An option is unknown, is not a point, or lies in a wall.
        """
        points = self._points(options or {})
        super().reset(seed=seed)
        if "start_xy" in points:
            qpos = self._qpos.copy()
            qpos[:2] += points["start_xy"]
            self.set_state(qpos, self._qvel.copy())
        # Drawn even when it is then overruled, so that options never shift the random sequence.
        drawn = self._draw_goal()
        self.goal = points.get("goal_xy", drawn)
        self.model.site_pos[self._goal_site, :2] = self.goal
        self.data.site_xpos[self._goal_site, :2] = self.goal
        self._last_observation = observation = self._observe()
        return observation.copy(), {"goal": self.goal.copy()}

    def set_state(
        self, qpos: npt.NDArray[np.floating[Any]], qvel: npt.NDArray[np.floating[Any]]
    ) -> None:
        """Put the simulation into a state.

        What follows depends on the two arguments alone: the solver's warm start and MuJoCo's
        warnings are cleared too.

        Args:
            qpos: Positions, `[nq]`: metres, quaternions, radians.
            qvel: Velocities, `[nv]`: metres per second, radians per second.

        Raises:
            ValueError: A shape is wrong.
        """
        found = (np.shape(qpos), np.shape(qvel))
        expected = (self._qpos.shape, self._qvel.shape)
        if found != expected:
            raise ValueError(f"expected qpos and qvel of shapes {expected}, found {found}")
        # The arguments may be views of the very arrays that the reset overwrites.
        new_qpos, new_qvel = np.array(qpos), np.array(qvel)
        mujoco.mj_resetData(self.model, self.data)
        self._qpos[:] = new_qpos
        self._qvel[:] = new_qvel
        mujoco.mj_forward(self.model, self.data)
        self._last_observation = self._observe()

    def _simulate(self, action: npt.NDArray[np.float64]) -> None:
        """Advance the physics by one environment step; `action` is within [-1, 1]."""
        raise NotImplementedError

    def _draw_goal(self) -> npt.NDArray[np.float64]:
        """A goal for a new episode, `[2]` in metres."""
        return self.maze.to_xy(self.maze.goal_cell)

    def _edit_model(self, root: ET.Element) -> None:
        """Change the body's MJCF before walls and goal are added."""

    def _observe(self) -> Observation:
        return np.concatenate((self._qpos, self._qvel), dtype=np.float32, casting="same_kind")

    def _at_goal(self) -> bool:
        offset = (float(self._qpos[0] - self.goal[0]), float(self._qpos[1] - self.goal[1]))
        return math.hypot(*offset) <= self.goal_radius

    def _blew_up(self) -> bool:
        # MuJoCo resets a simulation that went bad and only leaves a warning: without this look
        # the agent would seem to be carried back to the start.
        warnings = self.data.warning
        return any(warnings[kind].number > 0 for kind in _PHYSICS_WARNINGS)

    def _set_action_space(self) -> spaces.Space[Any]:
        self.action_space = spaces.Box(-1.0, 1.0, (int(self.model.nu),))
        return self.action_space

    def _initialize_simulation(self) -> tuple[Any, Any]:
        root = ET.parse(self.fullpath).getroot()
        self._edit_model(root)
        _add_maze(root, self.maze, self.goal, self.goal_radius)
        model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def _points(self, options: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
        points = {}
        for name, value in options.items():
            if name not in _RESET_OPTIONS:
                known = ", ".join(_RESET_OPTIONS)
                raise UserError(f"reset options: found {name!r}, expected some of {known}")
            try:
                point = np.array(value, dtype=np.float64)
            except (TypeError, ValueError):
                point = np.empty(0)
            if point.shape != (2,) or not np.isfinite(point).all():
                raise UserError(f"reset option {name}: found {value!r}, expected two finite metres")
            if not self.maze.is_free(self.maze.to_cell(point)):
                raise UserError(
                    f"reset option {name}: found {value!r}, which lies in a wall or outside the "
                    "maze; expected a point in a free cell (see maze_map)"
                )
            points[name] = point
        return points


def _add_maze(
    root: ET.Element, maze: Maze, goal: npt.NDArray[np.float64], goal_radius: float
) -> None:
    world = root.find("worldbody")
    if world is None:
        raise ValueError("expected a <worldbody> in the body's MJCF file, found none")
    half, half_height = maze.cell_size / 2, maze.wall_height / 2
    for (row, column), (x, y) in zip(maze.wall_cells, maze.wall_centres, strict=True):
        wall = {
            "name": f"wall_{row}_{column}",
            "type": "box",
            "pos": f"{x} {y} {half_height}",
            "size": f"{half} {half} {half_height}",
            "contype": "1",
            "conaffinity": "1",
            "rgba": "0.45 0.45 0.5 1",
        }
        ET.SubElement(world, "geom", wall)
    site = {
        "name": "goal",
        "type": "cylinder",
        "pos": f"{goal[0]} {goal[1]} 0.01",
        "size": f"{goal_radius} 0.01",
        "rgba": "0.8 0.2 0.2 0.6",
    }
    ET.SubElement(world, "site", site)


def asset_path(package: str, *parts: str) -> Path:
    """Path of a file that an installed package carries, found without importing the package.

    Args:
        package: Name of the top-level package.
        parts: The path below the package's folder.

    Raises:
        UserError: The package is not installed or lacks the file.
    """
    found = find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or ():
        path = Path(folder, *parts)
        if path.is_file():
            return path
    wanted = "/".join(parts)
    raise UserError(
        f"package {package}: found no file {wanted}; run: pip install {package.replace('_', '-')}"
    )
