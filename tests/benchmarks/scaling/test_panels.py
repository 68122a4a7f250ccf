from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def points(bench: Any, name: str, rates: list[list[float]]) -> Any:
    panels, stopwatch = bench("scaling.panels"), bench("speed.stopwatch")
    panel = panels.PANELS[name]
    group = panel.group(threads=2)
    blocks = [
        stopwatch.Block(variant.label, turn, round(100 * rate), 100.0)
        for variant, values in zip(group.variants, rates, strict=True)
        for turn, rate in enumerate(values)
    ]
    measured = stopwatch.Measured(blocks, {})
    return panel, panel.points(bench("speed.measurements").Comparison(group, measured))


def test_costs_are_relative_to_the_base_within_rounds(bench: Any) -> None:
    rates = [[400.0, 200.0], [100.0, 50.0], [50.0, 25.0], []]
    panel, found = points(bench, "batch", rates)
    # The last one could not be measured.
    assert [point.x for point in found] == [64, 256, 1024]
    assert [point.ratio.median for point in found] == [0.25, 1.0, 2.0]
    assert found[1].found.median == pytest.approx(1000 / 75)
    assert "batch 1,024" in panel.table(found)


def test_two_processes_learn_from_two_batches(bench: Any) -> None:
    _, found = points(bench, "processes", [[50.0], [80.0], [45.0]])
    assert [point.found.median for point in found] == [50.0, 80.0, 90.0]
    assert [point.ratio.median for point in found] == [1.0, 1.6, 1.8]
    assert [v.threads for v in bench("scaling.panels").PANELS["processes"].group(4).variants] == [
        1,
        2,
        1,
    ]


def test_a_picture_is_written(bench: Any, tmp_path: Path) -> None:
    shown = dict(
        [
            points(bench, "batch", [[400.0], [100.0], [50.0], [9.0]]),
            points(bench, "collectors", [[40.0], [60.0], [50.0], []]),
        ]
    )
    bench("scaling.picture").picture(shown, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
