from __future__ import annotations

import math
from typing import Any

import pytest

from pex_lightning.studies.outcomes import Outcome, evaluations, outcomes
from pex_lightning.studies.table import collect


def only(runs: list[Any], threshold: float | None = None) -> Outcome:
    (found,) = outcomes(collect(runs), threshold)
    return found


def test_a_run_of_both_stages(make_run: Any) -> None:
    online = [(0, 0, 50.0), (10, 1_000, 30.0), (20, 4_000, 90.0)]
    run = make_run("pex", 3, offline=[(0, 0, 0.0), (100, 0, 60.0)], online=online)
    found = only([run], threshold=80.0)
    assert found.run == ("demo", "pex", "toy", 3)
    assert found.unit == "score"
    assert (found.offline, found.lowest, found.change, found.final) == (60.0, 30.0, -30.0, 90.0)
    # 1,000 steps at 40 in the middle, then 3,000 at 60.
    assert found.area == pytest.approx(55.0)
    assert found.regret == pytest.approx(90.0 - 55.0)
    assert found.env_steps_to_threshold == 4_000
    assert (found.last_step, found.last_env_steps) == (20, 4_000)


def test_an_offline_stage_alone_has_no_online_numbers(make_run: Any) -> None:
    found = only([make_run("offline", online=())], threshold=10.0)
    assert (found.offline, found.final) == (50.0, 50.0)
    for value in (found.lowest, found.change, found.area, found.regret):
        assert math.isnan(value)
    assert math.isnan(found.env_steps_to_threshold)


def test_a_run_from_nothing_has_no_offline_score(make_run: Any) -> None:
    found = only([make_run("scratch", offline=(), online=[(0, 0, 4.0), (2, 9, 8.0)])])
    assert math.isnan(found.offline)
    assert math.isnan(found.change)
    assert (found.lowest, found.final, found.area) == (4.0, 8.0, 6.0)


def test_an_online_stage_that_was_evaluated_once_has_that_score_as_area(make_run: Any) -> None:
    assert only([make_run("pex", online=[(0, 0, 7.0)])]).area == 7.0


def test_a_threshold_is_reached_at_or_above_it_or_never(make_run: Any) -> None:
    run = make_run("pex")
    assert only([run], 90.0).env_steps_to_threshold == 2_000
    assert only([run], 50.0).env_steps_to_threshold == 0
    assert only([run], 90.1).env_steps_to_threshold == math.inf
    assert math.isnan(only([run]).env_steps_to_threshold)


def test_regret_is_against_the_best_run_of_the_task(make_run: Any) -> None:
    better = make_run("pex", 1, online=[(0, 0, 100.0), (20, 2_000, 80.0)])
    elsewhere = make_run("pex", 1, task="other", online=[(0, 0, 500.0)])
    found = outcomes(collect([make_run("pex"), better, elsewhere]))
    assert [run.regret for run in found] == pytest.approx([100.0 - 70.0, 100.0 - 90.0, 0.0])


@pytest.mark.parametrize(
    ("metric", "unit", "final"),
    [("eval/success", "success", 90.0), ("eval/return", "return", 0.9)],
)
def test_environments_without_a_reference_score(
    make_run: Any, metric: str, unit: str, final: float
) -> None:
    found = only([make_run("pex", metric=metric, online=[(0, 0, 0.5), (1, 1, 0.9)])])
    assert found.unit == unit
    assert found.final == pytest.approx(final)


def test_the_runs_of_a_task_have_one_unit(make_run: Any) -> None:
    runs = [make_run("a"), make_run("b", task="returns", metric="eval/return")]
    both = runs[0].folder / "online" / "metrics.csv"
    both.write_text(both.read_text().replace("eval/score", "eval/return"))
    offline = runs[0].folder / "offline" / "metrics.csv"
    offline.write_text(offline.read_text().replace("eval/score", "eval/return"))
    score = make_run("c", metric="eval/score")
    found = evaluations(collect([*runs, score]))
    assert [(run.run.variant, run.unit) for run in found] == [("a", "return"), ("b", "return")]


def test_an_evaluation_that_is_not_finite_is_not_passed_over(make_run: Any) -> None:
    found = only([make_run("pex", online=[(0, 0, 50.0), (10, 10, math.nan)])])
    for value in (found.final, found.lowest, found.area, found.regret):
        assert math.isnan(value)


def test_without_environment_steps_there_is_no_area(make_run: Any) -> None:
    run = make_run("pex")
    file = run.folder / "online" / "metrics.csv"
    file.write_text(file.read_text().replace("env_steps", "unknown"))
    found = only([run], threshold=90.0)
    assert found.final == 90.0
    assert math.isnan(found.area)
    assert math.isnan(found.env_steps_to_threshold)


def test_runs_without_evaluations_are_left_out(make_run: Any) -> None:
    assert outcomes(collect([make_run("pex", offline=(), online=())])) == []
