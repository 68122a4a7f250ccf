"""The picture of data that are of no maze."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pex_lightning.datasets.columns import Column
from pex_lightning.inspection.overview import Overview, draw_overview, overview_of
from pex_lightning.inspection.ranges import ActionSpace, Numbers, read_ranges

SPACE = ActionSpace("none", (-1.0, 0.0), (1.0, 2.0))


def overview(rows: int = 40, name: str = "data", **changes: Any) -> Overview:
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(rows, 3)),
        "actions": rng.uniform((-1, 0), (1, 2), (rows, 2)),
        "rewards": rng.normal(size=rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 10 == 9,
        **changes,
    }
    columns = {key: Column("data", key, values) for key, values in arrays.items()}
    observations, _ = read_ranges(columns["observations"], None, [])
    return overview_of(columns, None, SPACE, observations, name, "0" * 16)


def pixels(path: Path, shown: Overview) -> np.ndarray:
    draw_overview(path, shown)
    with Image.open(path) as image:
        assert image.size[0] == 1200
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def test_counts_are_those_of_the_data() -> None:
    actions = np.tile([[-1.0, 2.0]], (40, 1))
    actions[0] = (np.nan, 1.0)
    actions[1] = (5.0, -5.0)
    found = overview(actions=actions)
    assert found.action_counts.sum(1).tolist() == [39, 40]
    # Lower bound, upper bound, and what lies outside at the bound that it passed.
    assert found.action_counts[0, [0, -1]].tolist() == [38, 1]
    assert found.action_counts[1, [0, 20, -1]].tolist() == [1, 1, 38]
    assert found.lengths.tolist() == [10] * 4
    np.testing.assert_allclose(found.returns, found.rewards.reshape(4, 10).sum(1), rtol=1e-5)


def test_other_data_make_another_picture(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.png", overview()
    first = pixels(path, plain)
    for change in (
        {"returns": plain.returns * np.array([1, 1, 1, 4])},
        {"rewards": plain.rewards**3, "lengths": np.array([1, 2, 3, 4])},
        {"action_counts": plain.action_counts[:, ::-1]},
        {"observations": [Numbers(-9.0, 9.0, 0.0, 1.0, 0)] * 3},
    ):
        other = pixels(path, dataclasses.replace(plain, **change))
        assert (np.abs(first - other).sum(-1) > 60).sum() > 200, change


@pytest.mark.parametrize(
    "changes",
    [
        {
            "rewards": np.full(40, np.nan),
            "timeouts": np.zeros(40, bool),
            "observations": np.full((40, 3), np.inf),
            "actions": np.full((40, 2), np.nan),
        },
        {
            "rewards": np.where(np.arange(40) % 2, 1.0, np.nextafter(1.0, 2.0)),
            "observations": np.tile([[0.0, 1e30, -1e30]], (40, 1)),
            "actions": np.zeros((40, 5)),
            "name": "$\\broken_{math",
        },
        {
            "rewards": np.where(np.arange(40) % 2, 3e38, -3e38).astype(np.float32),
            "observations": np.zeros((40, 400)),
        },
    ],
    ids=["not finite", "extreme", "large"],
)
def test_odd_data_are_drawn(changes: dict[str, Any], tmp_path: Path) -> None:
    pixels(tmp_path / "a.png", overview(**changes))
