"""Maze maps and their geometry: cells, walls, and shortest paths between cells.

Coordinates follow D4RL: x grows with the column, y with the row, and the centre of the start
cell is the origin.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Cell = tuple[int, int]
"""A maze cell as (row, column)."""

WALL = "1"
START = "r"
GOAL = "g"


@dataclass(frozen=True)
class Maze:
    """A rectangular maze of square cells.

    Attributes:
        rows: One string per row, one character per cell: `1` a wall, `r` the start, `g` the goal
            of the evaluation task, `0` free.
        cell_size: Side of a cell in metres.
        wall_height: Height of the walls in metres; they stand on the floor.
    """

    rows: tuple[str, ...]
    cell_size: float
    wall_height: float

    @cached_property
    def start_cell(self) -> Cell:
        """The cell marked `r`."""
        return self._only(START)

    @cached_property
    def goal_cell(self) -> Cell:
        """The cell marked `g`."""
        return self._only(GOAL)

    @cached_property
    def free_cells(self) -> tuple[Cell, ...]:
        """All cells that are not walls, row by row."""
        return tuple(cell for cell, mark in self._marks() if mark != WALL)

    @cached_property
    def wall_cells(self) -> tuple[Cell, ...]:
        """All wall cells, row by row."""
        return tuple(cell for cell, mark in self._marks() if mark == WALL)

    @property
    def wall_centres(self) -> npt.NDArray[np.float64]:
        """Centres of the wall cells, `[walls, 2]` in metres.

        Each wall is the square of side `cell_size` around its centre, which is all that a plot
        needs.
        """
        return np.array([self.to_xy(cell) for cell in self.wall_cells])

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Outer edges of the maze (x low, x high, y low, y high) in metres."""
        half = self.cell_size / 2
        x_low, y_low = self.to_xy((0, 0))
        x_high, y_high = self.to_xy((len(self.rows) - 1, len(self.rows[0]) - 1))
        return float(x_low - half), float(x_high + half), float(y_low - half), float(y_high + half)

    def to_xy(self, cell: Cell) -> npt.NDArray[np.float64]:
        """Centre of a cell, `[2]` in metres."""
        start_row, start_column = self.start_cell
        row, column = cell
        return np.array([column - start_column, row - start_row]) * self.cell_size

    def to_cell(self, xy: npt.ArrayLike) -> Cell:
        """The cell that holds the point `xy` (`[2]`, metres); it may lie outside the map."""
        x, y = np.asarray(xy, dtype=np.float64)
        start_row, start_column = self.start_cell
        column = int(np.floor(x / self.cell_size + 0.5)) + start_column
        row = int(np.floor(y / self.cell_size + 0.5)) + start_row
        return row, column

    def is_free(self, cell: Cell) -> bool:
        """Whether the cell lies inside the map and is not a wall."""
        row, column = cell
        inside = 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0])
        return inside and self.rows[row][column] != WALL

    def shortest_path(self, start: Cell, goal: Cell) -> list[Cell]:
        """Cells from `start` to `goal`, both included, found breadth first.

        Raises:
            ValueError: A cell is a wall, or no path joins the two.
        """
        if not (self.is_free(start) and self.is_free(goal)):
            raise ValueError(f"expected free cells, found {start} and {goal}")
        came_from: dict[Cell, Cell] = {goal: goal}
        queue = deque([goal])
        while queue and start not in came_from:
            row, column = cell = queue.popleft()
            neighbours = (
                (row, column + 1),
                (row + 1, column),
                (row, column - 1),
                (row - 1, column),
            )
            for neighbour in neighbours:
                if self.is_free(neighbour) and neighbour not in came_from:
                    came_from[neighbour] = cell
                    queue.append(neighbour)
        if start not in came_from:
            raise ValueError(f"no path joins the cells {start} and {goal}")
        path = [start]
        while path[-1] != goal:
            path.append(came_from[path[-1]])
        return path

    def _marks(self) -> list[tuple[Cell, str]]:
        return [((i, j), mark) for i, row in enumerate(self.rows) for j, mark in enumerate(row)]

    def _only(self, wanted: str) -> Cell:
        found = [cell for cell, mark in self._marks() if mark == wanted]
        if len(found) != 1:
            raise ValueError(f"expected one cell marked {wanted!r} in the maze, found {len(found)}")
        return found[0]


MAPS: Mapping[str, tuple[str, ...]] = {
    "umaze": (
        "11111",
        "1r001",
        "11101",
        "1g001",
        "11111",
    ),
    "medium": (
        "11111111",
        "1r011001",
        "10010001",
        "11000111",
        "10010001",
        "10100101",
        "100010g1",
        "11111111",
    ),
    "large": (
        "111111111111",
        "1r0001000001",
        "101101010101",
        "100000010001",
        "101111011101",
        "100101000001",
        "110101010111",
        "100100010g01",
        "111111111111",
    ),
}
"""D4RL's three mazes with the start and goal of their evaluation tasks."""
