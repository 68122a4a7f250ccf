"""Cells, coordinates and paths of the mazes."""

import numpy as np
import pytest

from pex_lightning.envs.mazes import MAPS, Maze


@pytest.mark.parametrize(
    ("name", "goal", "steps"),
    [("umaze", (0, 8), 6), ("medium", (20, 20), 10), ("large", (32, 24), 14)],
)
def test_start_is_the_origin_and_the_goal_can_be_reached(name, goal, steps):
    maze = Maze(MAPS[name], 4.0, 2.0)
    assert tuple(maze.to_xy(maze.start_cell)) == (0, 0)
    assert tuple(maze.to_xy(maze.goal_cell)) == goal
    path = maze.shortest_path(maze.start_cell, maze.goal_cell)
    assert len(path) - 1 == steps
    assert all(maze.is_free(cell) for cell in path)
    moves = np.abs(np.diff(path, axis=0)).sum(1)
    np.testing.assert_array_equal(moves, 1)


def test_cells_and_coordinates_are_inverse():
    maze = Maze(MAPS["large"], 4.0, 2.0)
    for cell in maze.free_cells + maze.wall_cells:
        assert maze.to_cell(maze.to_xy(cell) + np.array([1.9, -1.9])) == cell
    assert maze.to_cell([2.1, 0.0]) == (1, 2)


def test_walls_are_given_as_squares():
    maze = Maze(MAPS["umaze"], 4.0, 2.0)
    centres = maze.wall_centres
    assert centres.shape == (18, 2)
    assert maze.extent == (-6.0, 14.0, -6.0, 14.0)
    assert [0.0, 4.0] in centres.tolist()  # between the start and the goal
    assert not maze.is_free((2, 1))
    assert not maze.is_free((-1, 1))


def test_impossible_mazes_and_paths_are_refused():
    maze = Maze(("11111", "1r1g1", "11111"), 1.0, 1.0)
    with pytest.raises(ValueError, match="no path"):
        maze.shortest_path(maze.start_cell, maze.goal_cell)
    with pytest.raises(ValueError, match="free cells"):
        maze.shortest_path(maze.start_cell, (0, 0))
    with pytest.raises(ValueError, match="found 2"):
        _ = Maze(("rr",), 1.0, 1.0).start_cell
