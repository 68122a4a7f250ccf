"""Maze2D is D4RL's maze2d: model, coordinates, rewards, starts and limits."""

from __future__ import annotations

import ast
import math
import warnings
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from pex_lightning.envs import make_env
from pex_lightning.envs.maze2d import Maze2DEnv
from pex_lightning.errors import UserError

LIMITS = {"Open": ("v0", 150), "UMaze": ("v1", 300), "Medium": ("v1", 600), "Large": ("v1", 800)}
IDS = [
    f"pex_lightning/Maze2D-{maze}{dense}-{version}"
    for maze, (version, _) in LIMITS.items()
    for dense in ("", "-Dense")
]


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_it(env_id: str) -> None:
    env = gymnasium.make(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*observation space m.* value is -?infinity")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("maze", "constant"),
    [("open", "OPEN"), ("umaze", "U_MAZE"), ("medium", "MEDIUM_MAZE"), ("large", "LARGE_MAZE")],
)
def test_the_mazes_are_d4rls(maze: str, constant: str) -> None:
    found = find_spec("d4rl")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package d4rl: pip install --no-deps d4rl==1.1")
    source = Path(found.submodule_search_locations[0], "pointmaze", "maze_model.py").read_text()
    # Read and not run: importing it needs mujoco-py.
    values = {
        ast.unparse(node.targets[0]): node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    }
    marks = str.maketrans("10g", "#OG")
    drawn = [row.translate(marks) for row in Maze2DEnv(maze).maze_map]
    assert joined(values[constant]).split("\\") == drawn


def joined(node: ast.expr) -> str:
    """The string that a sum of literals makes."""
    if isinstance(node, ast.BinOp):
        return joined(node.left) + joined(node.right)
    return str(ast.literal_eval(node))


def d4rl_model(env: Maze2DEnv) -> mujoco.MjModel:
    """The same maze as D4RL lays it out: walls at row + 1, column + 1, the particle at 1.2, 1.2."""
    walls = "".join(
        f'<geom type="box" pos="{row + 1} {column + 1} 0" size=".5 .5 .2"/>'
        for row, line in enumerate(env.maze_map)
        for column, mark in enumerate(line)
        if mark == "1"
    )
    motors = "".join(f'<motor joint="{j}" ctrlrange="-1 1" gear="100"/>' for j in "xy")
    return mujoco.MjModel.from_xml_string(f"""
    <mujoco><compiler inertiafromgeom="true"/>
      <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
      <default>
        <joint damping="1"/>
        <geom friction=".5 .1 .1" density="1000" margin="0.002" condim="1" contype="2"/>
      </default>
      <worldbody>
        <body pos="1.2 1.2 0">
          <geom type="sphere" size="0.1" contype="1"/>
          <joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
        </body>{walls}
      </worldbody>
      <actuator>{motors}</actuator>
    </mujoco>""")


@pytest.mark.parametrize("maze", ["open", "umaze", "medium", "large"])
def test_a_step_is_d4rls(maze: str) -> None:
    env, model = Maze2DEnv(maze), d4rl_model(Maze2DEnv(maze))
    theirs = mujoco.MjData(model)
    env.reset(seed=0)
    # As high above the particle as below it, so that walls push sideways and never up.
    assert env.model.geom("wall_0_0").pos[2] == env.model.body("particle").pos[2]
    at_walls, speeds = 0, []
    for action in np.random.default_rng(0).uniform(-1, 1, (50, 2)).repeat(20, axis=0):
        theirs.qpos[:], theirs.qvel[:] = env.data.qpos, env.data.qvel.clip(-5, 5)
        theirs.ctrl[:] = action
        mujoco.mj_step(model, theirs)
        env.step(action)
        np.testing.assert_allclose(env.data.qpos, theirs.qpos, atol=1e-10)
        np.testing.assert_allclose(env.data.qvel, theirs.qvel, atol=1e-8)
        at_walls += theirs.ncon
        speeds.append(np.abs(env.data.qvel).max())
    assert at_walls > 50
    assert max(speeds) > 5


def test_x_grows_with_the_row_and_cells_lie_beside_the_whole_numbers() -> None:
    env = Maze2DEnv("umaze")
    assert env.maze.to_xy((1, 3)) == pytest.approx([0.8, 2.8])
    assert env.maze.extent == pytest.approx((-0.7, 4.3, -0.7, 4.3))
    assert env.maze.wall_centres.min(axis=0) == pytest.approx([-0.2, -0.2])
    wide = Maze2DEnv("large").maze
    assert wide.extent == pytest.approx((-0.7, 8.3, -0.7, 11.3))
    for cell in wide.free_cells + wide.wall_cells:
        assert wide.to_cell(wide.to_xy(cell) + np.array([0.49, -0.49])) == cell
        assert wide.to_cell(cell) == cell


def test_a_wall_stops_the_point_where_it_is_drawn() -> None:
    env = Maze2DEnv("umaze")
    env.reset(seed=0)
    env.set_state(np.array([1.0, 1.0]), np.zeros(2))
    for _ in range(100):
        x = env.step(np.array([1.0, 0.0]))[0][0]
    face = env.maze.wall_centres[:, 0]
    below = face[(face > 1) & (face < 2.5)].min() - 0.5
    assert x == pytest.approx(below - 0.1, abs=0.02)


def test_episodes_start_in_every_free_cell_and_move_a_little() -> None:
    env = Maze2DEnv("umaze")
    env.reset(seed=0)
    starts = np.array([env.reset()[0] for _ in range(400)])
    cells = np.round(starts[:, :2])
    assert {tuple(map(int, cell)) for cell in cells} == set(env.maze.free_cells)
    noise = np.abs(starts[:, :2] - cells)
    assert 0.095 < noise.max() <= 0.1
    assert starts[:, 2:].std() == pytest.approx(0.1, rel=0.1)


def test_the_goal_is_d4rls_goal_cell() -> None:
    for maze, goal in {"open": (2, 3), "umaze": (1, 1), "medium": (6, 6), "large": (7, 9)}.items():
        env = Maze2DEnv(maze)
        goals = [env.reset(seed=seed)[1]["goal"] for seed in range(3)]
        np.testing.assert_array_equal(goals, [goal] * 3)


@pytest.mark.parametrize(("distance", "near"), [(0.45, True), (0.55, False)])
def test_rewards_are_for_where_a_step_ends(distance: float, near: bool) -> None:
    start = np.array([1.0, 1.0 + distance])
    for reward_type, expected in [("sparse", float(near)), ("dense", math.exp(-distance))]:
        env = Maze2DEnv("umaze", reward_type=reward_type)
        env.reset(seed=0)
        env.set_state(start, np.zeros(2))
        _, reward, terminated, truncated, info = env.step(np.zeros(2))
        assert reward == pytest.approx(expected, abs=1e-6)
        assert (terminated, truncated, info["success"]) == (False, False, near)


@pytest.mark.parametrize("maze", LIMITS)
def test_only_the_time_limit_ends_an_episode(maze: str) -> None:
    version, limit = LIMITS[maze]
    for dense in ("", "-Dense"):
        env = make_env(f"pex_lightning/Maze2D-{maze}{dense}-{version}")
        _, info = env.reset(seed=0)
        env.unwrapped.set_state(info["goal"], np.zeros(2))
        steps = [env.step(np.zeros(2, np.float32))[1:4] for _ in range(limit)]
        assert all(reward == 1.0 for reward, _, _ in steps)
        assert [ends[1:] for ends in steps] == [(False, False)] * (limit - 1) + [(False, True)]


def test_options_place_start_and_goal() -> None:
    env = Maze2DEnv("medium")
    for seed in range(5):
        observation, info = env.reset(
            seed=seed, options={"start_xy": [3.0, 4.0], "goal_xy": [1.0, 1.0]}
        )
        assert np.abs(observation[:2] - [3.0, 4.0]).max() <= 0.1
        np.testing.assert_array_equal(info["goal"], [1.0, 1.0])
    with pytest.raises(UserError, match="lies in a wall"):
        env.reset(options={"start_xy": [0.0, 0.0]})


def test_a_simulation_that_blows_up_ends_the_episode() -> None:
    env = Maze2DEnv("umaze", reward_type="dense")
    env.reset(seed=0)
    env.set_state(np.array([1e11, 1.0]), np.zeros(2))
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert (reward, terminated, info["physics_error"]) == (0.0, True, True)


def test_unknown_mazes_and_rewards_are_refused() -> None:
    with pytest.raises(UserError, match=r"'huge'.*open, umaze, medium, large"):
        Maze2DEnv("huge")
    with pytest.raises(UserError, match=r"'thick'.*sparse or dense"):
        Maze2DEnv("umaze", reward_type="thick")
