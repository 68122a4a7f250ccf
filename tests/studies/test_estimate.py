"""The estimate of a study's time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pex_lightning.callbacks.status import StageStatus
from pex_lightning.studies.estimate import estimate
from pex_lightning.studies.plan import PlannedRun, RunShape
from pex_lightning.studies.records import RunRecord


def status(
    updates: int, train: float, evaluation: float, evaluations: int, start: float = 0.0
) -> StageStatus:
    first = 20 if start else 0
    return StageStatus(
        updates, updates, 0, None, 0.0, train, evaluation, evaluations, 0, start, first
    )


def test_updates_and_evaluations_are_scaled_and_the_start_is_not():
    shape = RunShape("x", 3_000, 6_000, 2, 4, 100, 1)
    run = PlannedRun(RunRecord("s", "v", "t", 0), Path(), shape)
    # 10 s of start, 1 s a hundred updates, 1 s an episode.
    stages = {"offline": status(300, 3.0, 20.0, 2), "online": status(300, 6.0, 10.0, 1)}
    seconds = estimate(run, 10.0 + 3.0 + 20.0 + 6.0 + 10.0, stages)
    assert seconds == pytest.approx(10.0 + 30.0 + 200.0 + 120.0 + 400.0)


def test_what_comes_once_before_the_first_updates_is_not_scaled():
    run = PlannedRun(RunRecord("s", "v", "t", 0), Path(), RunShape(None, 0, 80_000, 0, 1, 5, 1))
    # 40 s of waiting for the compiler and 20 updates, then 10 s for 280 updates.
    stages = {"offline": None, "online": status(300, 50.0, 5.0, 1, start=40.0)}
    assert estimate(run, 58.0, stages) == pytest.approx(43.0 + 80_000 * 10 / 280 + 5.0)


def test_a_stage_that_a_run_has_not_counts_nothing():
    run = PlannedRun(RunRecord("s", "v", "t", 0), Path(), RunShape(None, 0, 600, 0, 1, 5, 1))
    stages = {"offline": None, "online": status(300, 3.0, 5.0, 1)}
    assert estimate(run, 9.0, stages) == pytest.approx(1.0 + 6.0 + 5.0)
