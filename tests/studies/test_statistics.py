from __future__ import annotations

import importlib.util
import math
import sys
import time
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pex_lightning.studies.statistics import (
    iqm,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

NUMBERS = st.floats(-1e3, 1e3)
TASKS = st.lists(st.lists(NUMBERS, min_size=2, max_size=6), min_size=1, max_size=4)


def runs_by_tasks(seed: int, runs: int, tasks: int) -> np.ndarray:
    """As rliable has them: [runs, tasks]."""
    rng = np.random.default_rng(seed)
    return rng.normal(rng.uniform(20, 80, tasks), 10.0, (runs, tasks))


def ours(scores: np.ndarray) -> list[np.ndarray]:
    return list(scores.T)


@pytest.fixture
def rliable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library whose numbers ours are compared with."""
    pytest.importorskip("rliable")
    # It needs `arch.bootstrap` alone, and an arch below 8, which cannot be imported as a whole
    # with pandas 3.
    found = importlib.util.find_spec("arch")
    assert found is not None
    arch = types.ModuleType("arch")
    arch.__path__ = list(found.submodule_search_locations or [])
    monkeypatch.setitem(sys.modules, "arch", arch)
    from rliable import library

    # It draws from NumPy's global generator, whatever `random_state` is.
    np.random.seed(0)
    return library


def test_iqm_by_hand() -> None:
    assert iqm([1.0, 2.0, 3.0, 100.0]) == 2.5
    # Of 5, a quarter is one whole run.
    assert iqm([0.0, 1.0, 2.0, 3.0, 100.0]) == 2.0
    assert iqm([1.0, 2.0, 6.0]) == 3.0
    np.testing.assert_array_equal(iqm([[1.0, 2.0, 3.0, 9.0], [5.0, 5.0, 5.0, 0.0]]), [2.5, 5.0])


def test_probability_by_hand() -> None:
    # Pairs: 3 > 1, 3 > 2, 2 > 1 and a tie; on the second task all are below.
    found = probability_of_improvement([[2.0, 3.0], [0.0]], [[1.0, 2.0], [1.0, 2.0]])
    assert found.value == (3.5 / 4 + 0.0) / 2
    assert (found.seeds, found.runs) == (1, 7)


def test_profile_by_hand() -> None:
    # A score that is at a level is not above it.
    found = performance_profile([[1.0, 2.0], [3.0, 4.0, 5.0]], [0.0, 1.0, 5.0])
    np.testing.assert_allclose(found.share, [1.0, 0.8, 0.0])
    # Of the first task none, one or both of the drawn runs are above 1, with 1/4, 1/2, 1/4.
    np.testing.assert_allclose([found.low[1], found.high[1]], [0.6, 1.0])
    assert found.low[0] == found.high[0] == 1.0
    assert found.low[2] == found.high[2] == 0.0


@pytest.mark.parametrize(("runs", "tasks"), [(2, 1), (3, 1), (5, 1), (5, 3), (10, 4)])
def test_estimates_are_those_of_rliable(rliable: Any, runs: int, tasks: int) -> None:
    from rliable import metrics

    x, y = runs_by_tasks(0, runs, tasks), runs_by_tasks(1, runs + 2, tasks)
    assert stratified_bootstrap(ours(x)).value == pytest.approx(metrics.aggregate_iqm(x), rel=1e-12)
    assert probability_of_improvement(ours(x), ours(y)).value == pytest.approx(
        metrics.probability_of_improvement(x, y), rel=1e-12
    )
    taus = np.linspace(0, 100, 7)
    np.testing.assert_allclose(
        performance_profile(ours(x), taus).share, rliable.score_distributions(x, taus)
    )


def test_interval_of_the_iqm_is_that_of_rliable(rliable: Any) -> None:
    from rliable import metrics

    x = runs_by_tasks(0, 10, 4)
    _, theirs = rliable.get_interval_estimates(
        {"x": x}, lambda scores: np.array([metrics.aggregate_iqm(scores)]), reps=2_000
    )
    found = stratified_bootstrap(ours(x), replications=20_000)
    width = found.high - found.low
    np.testing.assert_allclose([found.low, found.high], theirs["x"][:, 0], atol=0.1 * width)


def test_interval_of_the_probability_is_that_of_rliable(rliable: Any) -> None:
    from rliable import metrics

    x, y = runs_by_tasks(0, 10, 3), runs_by_tasks(0, 8, 3) + 2.0
    _, theirs = rliable.get_interval_estimates(
        {"x": [x, y]}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=500
    )
    found = probability_of_improvement(ours(x), ours(y), replications=20_000)
    width = found.high - found.low
    np.testing.assert_allclose([found.low, found.high], theirs["x"][:, 0], atol=0.15 * width)


def test_bands_of_the_profile_are_those_of_rliable(rliable: Any) -> None:
    x, taus = runs_by_tasks(0, 10, 4), np.linspace(20, 80, 5)
    _, theirs = rliable.create_performance_profile({"x": x}, taus, reps=2_000)
    found = performance_profile(ours(x), taus, replications=20_000)
    np.testing.assert_allclose([found.low, found.high], theirs["x"], atol=0.03)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(0), 0
    for trial in range(300):
        scores = list(rng.normal(50.0, 10.0, (3, 20)))
        found = stratified_bootstrap(scores, replications=400, seed=trial)
        inside += found.low <= 50.0 <= found.high
    assert 0.90 < inside / 300 < 0.99


@settings(max_examples=50, deadline=None)
@given(TASKS)
def test_an_interval_lies_within_the_scores(scores: list[list[float]]) -> None:
    found = stratified_bootstrap(scores, replications=100)
    everything = [score for task in scores for score in task]
    slack = 1e-9 * max(map(abs, everything))
    assert min(everything) - slack <= found.low <= found.high <= max(everything) + slack
    assert found.runs == len(everything)
    assert found.seeds == min(map(len, scores))


@settings(max_examples=50, deadline=None)
@given(TASKS, st.integers(0, 10))
def test_the_probability_is_fair(scores: list[list[float]], seed: int) -> None:
    others = [[score + 1.0 for score in task] for task in scores]
    forth = probability_of_improvement(others, scores, replications=100, seed=seed)
    back = probability_of_improvement(scores, others, replications=100, seed=seed)
    assert forth.value + back.value == pytest.approx(1.0)
    assert forth.value >= 0.5
    assert probability_of_improvement(scores, scores, replications=10).value == pytest.approx(0.5)


@settings(max_examples=50, deadline=None)
@given(TASKS)
def test_a_profile_falls(scores: list[list[float]]) -> None:
    found = performance_profile(scores, np.linspace(-1e3, 1e3, 9), replications=100)
    for curve in (found.share, found.low, found.high):
        assert (np.diff(curve) <= 1e-9).all()
    assert (found.low <= found.share + 1e-9).all() or found.low[0] == found.share[0]


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = ours(runs_by_tasks(0, 5, 2))
    assert stratified_bootstrap(scores, seed=3) == stratified_bootstrap(scores, seed=3)
    assert stratified_bootstrap(scores, seed=3) != stratified_bootstrap(scores, seed=4)


def test_one_seed_gives_no_interval() -> None:
    found = stratified_bootstrap([[1.0], [2.0, 3.0]])
    assert found.value == 2.0
    assert not found.has_interval
    assert math.isnan(probability_of_improvement([[1.0]], [[2.0, 3.0]]).low)
    assert np.isnan(performance_profile([[1.0], [2.0, 3.0]], [0.0, 1.0]).high).all()


def test_tasks_without_runs_are_left_out() -> None:
    assert stratified_bootstrap([[], [1.0, 2.0]]).value == 1.5
    assert math.isnan(stratified_bootstrap([[], []]).value)
    found = probability_of_improvement([[], [2.0, 2.0]], [[9.0], [1.0, 1.0]])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="zip"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_a_large_study_takes_less_than_a_second() -> None:
    scores = ours(runs_by_tasks(0, 10, 9))
    began = time.perf_counter()
    stratified_bootstrap(scores, replications=2_000)
    probability_of_improvement(scores, scores, replications=2_000)
    performance_profile(scores, np.linspace(0, 100, 100), replications=2_000)
    assert time.perf_counter() - began < 3
