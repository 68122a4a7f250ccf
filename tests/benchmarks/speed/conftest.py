from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def comparison(bench: Callable[[str], Any]) -> Callable[..., Any]:
    """Makes a comparison of two threads, with blocks at these rates by label."""

    def make(rates: dict[str, list[float]]) -> Any:
        table, stopwatch = bench("speed.case_table"), bench("speed.stopwatch")
        groups = table.groups(list(table.CASES), threads=[2], precisions=["float32", "bf16"])
        group = next(g for g in groups if set(rates) <= {v.label for v in g.variants})
        blocks = [
            stopwatch.Block(label, turn, round(100 * rate), 100.0)
            for label, values in rates.items()
            for turn, rate in enumerate(values)
        ]
        measured = stopwatch.Measured(blocks, {})
        return bench("speed.measurements").Comparison(group, measured)

    return make


@pytest.fixture
def rates() -> dict[str, list[float]]:
    """Of this package's updates and fits, and of other libraries' updates."""
    return {
        "ours, float32, brief": [100.0, 100.0],
        "ours compiled, float32, active": [150.0, 150.0],
        "d3rlpy, float32": [100.0, 100.0],
        "JAX, float32": [150.0, 150.0],
        "fit, float32, brief": [120.0, 120.0],
        "fit, float32, active": [135.0, 135.0],
    }
