from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def spread(found: Any) -> tuple[float, float, float]:
    return found.lower, found.median, found.upper


def test_ratios_are_taken_within_rounds(bench: Any, comparison: Any) -> None:
    # The machine is half as fast in every round as in the one before.
    found = comparison({"ours, float32, brief": [80, 40, 20], "JAX, float32": [160, 80, 42]})
    ours, jax = bench("speed.report").rows(found)
    assert spread(ours.ratio) == (1.0, 1.0, 1.0)
    assert spread(jax.ratio) == (2.0, 2.0, pytest.approx(2.05))
    assert spread(jax.rate) == (61.0, 80.0, 120.0)
    assert jax.overall == pytest.approx(94.0)
    assert "JAX, float32" in bench("speed.report").table(found)


def test_no_ratio_where_the_first_is_missing(bench: Any, comparison: Any) -> None:
    found = comparison({"JAX, float32": [10, 10]})
    (row,) = bench("speed.report").rows(found)
    assert row.ratio is None


def test_reports_are_written(bench: Any, comparison: Any, rates: Any, tmp_path: Path) -> None:
    found = [comparison(rates)]
    report = bench("speed.report").to_json(
        found, {}, None, bench("speed.targets").targets(found, None)
    )
    (group,) = json.loads(json.dumps(report))["groups"]
    assert [row["rate"]["median"] for row in group["results"]] == [100, 150, 100, 150, 120, 135]
    bench("speed.picture").picture(found, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000
