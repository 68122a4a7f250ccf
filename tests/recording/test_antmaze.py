"""The ant is steered around corners to its goal, and out of where it is stuck."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from pex_lightning.envs.mazes import MAPS, Maze
from pex_lightning.recording.antmaze import AntMazeRecorder, Router, Steering
from pex_lightning.recording.recipes import RECIPES, AntMazeRecipe

UMAZE = RECIPES["antmaze-umaze"]
MAZE = Maze(MAPS["umaze"], 4.0, 2.0)
GOAL = np.array([0.6, 9.0])
assert isinstance(UMAZE, AntMazeRecipe)


def _ant_at(x: float, y: float, *, upright: bool = True) -> np.ndarray:
    observation = np.zeros(29, np.float32)
    observation[:3] = x, y, 0.5
    observation[3 if upright else 4] = 1.0
    return observation


def _steering(seed: int = 0, recipe: AntMazeRecipe = UMAZE) -> Steering:
    return Steering(recipe, Router(MAZE), GOAL, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("cell", "following"), [((1, 1), (1, 2)), ((1, 3), (2, 3)), ((3, 3), (3, 2))]
)
def test_it_heads_for_the_next_cells_jittered_centre(cell, following):
    position = MAZE.to_xy(cell)
    steering = _steering()
    headings = np.stack([steering.heading(_ant_at(*position)) for _ in range(10)])
    np.testing.assert_allclose(np.hypot(*headings.T), 1.0)
    assert len(np.unique(headings[:, 0])) == 10
    low = MAZE.to_xy(following) - position
    # Somewhere in [0, 1]^2 of the centre: between the directions to the square's corners.
    corners = low + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    angles = np.arctan2(*corners.T[::-1])
    found = np.arctan2(headings[:, 1], headings[:, 0])
    offset = (found - angles[0] + np.pi) % (2 * np.pi) - np.pi
    spread = (angles - angles[0] + np.pi) % (2 * np.pi) - np.pi
    assert (offset >= spread.min() - 1e-9).all()
    assert (offset <= spread.max() + 1e-9).all()


@pytest.mark.parametrize("position", [(4.0, 8.0), (0.0, 8.0), (0.3, 9.5)])
def test_it_heads_for_the_goal_itself_from_the_cell_before_on(position):
    expected = GOAL - position
    np.testing.assert_allclose(
        _steering().heading(_ant_at(*position)), expected / np.hypot(*expected), rtol=1e-6
    )


def test_over_a_walls_edge_it_goes_on_as_before():
    steering = _steering()
    steering.heading(_ant_at(8.0, 4.0))
    heading = steering.heading(_ant_at(5.9, 4.0))
    assert heading[1] > 0.5


def _backs_off(observations, recipe=UMAZE) -> bool:
    """Whether the heading turns away from the goal, which lies in -x of these observations."""
    steering = _steering(recipe=recipe)
    return any(steering.heading(observation)[0] > 0 for observation in observations)


def test_a_stuck_ant_backs_off_for_a_while_and_then_goes_on():
    # In the cell before the goal's, left of the middle: back is right.
    stuck = _ant_at(2.2, 8.0)
    steering = _steering()
    back = [steering.heading(stuck)[0] > 0 for _ in range(3 * UMAZE.stuck_steps)]
    first = UMAZE.stuck_steps
    assert back[:first] == [False] * first
    assert back[first : first + UMAZE.back_off_steps] == [True] * UMAZE.back_off_steps
    assert not back[first + UMAZE.back_off_steps]


def test_only_a_stuck_ant_on_its_feet_and_away_from_its_goal_backs_off():
    steps = 60
    assert _backs_off([_ant_at(2.2, 8.0)] * steps)
    assert not _backs_off([_ant_at(2.2, 8.0, upright=False)] * steps)
    assert not _backs_off([_ant_at(1.4, 9.0)] * steps)
    assert not _backs_off([_ant_at(5.9 - 0.06 * i, 8.0) for i in range(steps)])
    assert not _backs_off([_ant_at(2.2, 8.0)] * steps, replace(UMAZE, stuck_steps=steps))


@pytest.mark.parametrize("name", ["antmaze-umaze", "antmaze-medium-play", "antmaze-large-diverse"])
def test_episodes_start_and_aim_where_the_recipe_says(name):
    recipe = RECIPES[name]
    assert isinstance(recipe, AntMazeRecipe)
    with contextlib.closing(AntMazeRecorder(recipe)) as recorder:
        maze = recorder.env.maze
        episodes = [recorder.record(np.random.default_rng(i), 2) for i in range(60)]
    starts = np.stack([episode["observations"][0, :2] for episode in episodes])
    goals = np.stack([episode["infos/goal"][0] for episode in episodes])
    assert {maze.to_cell(xy) for xy in starts} <= set(recipe.start_cells)
    assert len({maze.to_cell(xy) for xy in starts}) >= min(len(recipe.start_cells), 6)
    assert {maze.to_cell(xy) for xy in goals} <= set(recipe.goal_cells)
    offsets = goals - np.stack([maze.to_xy(maze.to_cell(xy)) for xy in goals])
    assert offsets.min() > 0
    assert 1 < offsets.max() < 1.5
    offsets = starts - np.stack([maze.to_xy(maze.to_cell(xy)) for xy in starts])
    assert np.abs(offsets - recipe.start_jitter / 2).max() < recipe.start_jitter / 2 + 0.1


def test_a_failed_simulation_does_not_end_the_recording(monkeypatch):
    with contextlib.closing(AntMazeRecorder(UMAZE)) as recorder:
        step = recorder.env.step
        calls = iter(range(100))

        def fail_once(action):
            outcome = step(action)
            if next(calls) != 3:
                return outcome
            return (*outcome[:2], True, False, {"success": False, "physics_error": True})

        monkeypatch.setattr(recorder.env, "step", fail_once)
        episode = recorder.record(np.random.default_rng(0), 8)
    np.testing.assert_array_equal(episode["observations"][4, 15:], 0)
    assert (episode["observations"][5, 15:] != 0).any()


@pytest.mark.slow
def test_the_walker_reaches_the_goal_of_umaze():
    with contextlib.closing(AntMazeRecorder(UMAZE)) as recorder:
        outcomes = [recorder.reaches_goal(np.random.default_rng((77, i))) for i in range(6)]
    steps = [taken for reached, taken in outcomes if reached]
    assert len(steps) >= 4
    assert 80 < min(steps) < 250
