from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pex_lightning.envs import make_env
from pex_lightning.errors import UserError
from pex_lightning.inspection.maze_plan import MazePlan, maze_plan
from pex_lightning.inspection.picture import Visits, draw_visits, recorded_ends

POINT = "pex_lightning/PointMaze-Medium-v0"
MAZES = [
    POINT,
    "pex_lightning/PointMaze-Large-v0",
    "pex_lightning/AntMaze-UMaze-v0",
    "PointMaze_UMaze-v3",
    "AntMaze_Large_Diverse_GR-v5",
]


def plan_of(env: str) -> MazePlan:
    plan = maze_plan(env)
    assert plan is not None
    return plan


def visits(xy: np.ndarray, **changes: np.ndarray) -> Visits:
    size = len(xy)
    parts = {
        "terminals": np.zeros(size, dtype=bool),
        "timeouts": np.arange(size) % 20 == 19,
        "rewards": (np.arange(size) % 20 == 18).astype(np.float32),
    }
    return Visits(xy=xy.astype(np.float32), name="walk", fingerprint="0" * 16, **parts | changes)


def walk(rows: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(scale=0.02, size=(rows, 2)), axis=0)


def size_of(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    return width, height


@pytest.mark.parametrize("env", MAZES)
def test_the_plan_is_where_the_environment_acts(env: str) -> None:
    plan = plan_of(env)
    # Starts and goals lie in free cells, the centre of each wall does not.
    assert plan.share_in_walls(plan.starts) == 0
    assert plan.share_in_walls(plan.goals) == 0
    assert plan.share_in_walls(plan.walls) == 1
    x_low, x_high, y_low, y_high = plan.extent
    around = np.array([[x_low - 1, 0], [x_high + 1, 0], [0, y_low - 99], [0, y_high + 99]])
    assert plan.share_in_walls(around) == 1
    assert plan.share_in_walls(np.concatenate((plan.starts[:1], plan.walls[:1]))) == 0.5


def test_a_body_that_is_pushed_around_stays_out_of_the_walls() -> None:
    plan = plan_of(POINT)
    env = make_env(POINT)
    rng = np.random.default_rng(0)
    positions = []
    for seed in range(5):
        env.reset(seed=seed)
        for _ in range(60):
            force = rng.uniform(-1, 1, 2).astype(np.float32)
            positions += [env.step(force)[0][:2] for _ in range(5)]
    env.close()
    xy = np.array(positions)
    assert np.ptp(xy, axis=0).max() > 1
    assert plan.share_in_walls(xy) < 0.01
    assert plan_of("pex_lightning/PointMaze-Large-v0").share_in_walls(xy + 2) > 0.05


def test_other_environments_have_no_plan() -> None:
    assert maze_plan("Pendulum-v1") is None


@pytest.mark.parametrize("env", MAZES)
def test_draws_a_png(env: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    draw_visits(path, visits(walk()), plan_of(env))
    width, height = size_of(path)
    assert width == 1200
    assert 600 < height < 2000
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_rows_show_where_they_are(tmp_path: Path) -> None:
    from matplotlib.image import imread

    plan = plan_of(POINT)
    empty, full = tmp_path / "empty.png", tmp_path / "full.png"
    corner = np.tile(plan.starts[0], (200, 1))
    draw_visits(empty, visits(corner), plan)
    around = corner + np.random.default_rng(0).uniform(-0.4, 0.4, corner.shape)
    draw_visits(full, visits(around), plan)
    changed = (imread(empty) != imread(full)).any(axis=2)
    _, columns = np.nonzero(changed[100:600])
    # In both panels, in the start's corner, and nowhere else.
    middle = changed.shape[1] / 2
    assert (columns < middle / 2).any()
    assert ((columns > middle) & (columns < 1.5 * middle)).any()
    assert not ((columns > middle / 2) & (columns < middle)).any()


def test_bad_positions_and_odd_rewards_do_not_matter(tmp_path: Path) -> None:
    xy = walk()
    xy[::7] = np.nan
    bad = visits(xy, timeouts=np.zeros(len(xy), dtype=bool), rewards=np.full(len(xy), np.nan))
    draw_visits(tmp_path / "a.png", bad, plan_of(POINT))
    assert size_of(tmp_path / "a.png")[0] == 1200
    nowhere = visits(np.full_like(xy, np.nan))
    with pytest.raises(UserError, match="every position is NaN"):
        draw_visits(tmp_path / "b.png", nowhere, plan_of(POINT))


def test_trajectories_go_on_behind_terminals_that_came_later() -> None:
    xy = np.zeros((10, 2))
    xy[:, 0] = [0, 0.1, 0.2, 0.3, 5, 5.1, 5.2, 9, 9, 9]
    terminals = np.array([0, 1, 1, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    timeouts = np.arange(10) == 8
    found = recorded_ends(visits(xy, terminals=terminals, timeouts=timeouts), cell_size=1)
    assert found.tolist() == [3, 6, 8, 9]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found the ending '\.jpg', expected \.png"):
        draw_visits(tmp_path / "a.jpg", visits(walk()), plan_of(POINT))
    with pytest.raises(UserError, match="cannot be written to"):
        draw_visits(tmp_path / "none" / "a.png", visits(walk()), plan_of(POINT))
