"""When something is due, and which environment steps come before which update."""

from __future__ import annotations

import math

import pytest

from pex_lightning.data.schedule import Alternation, Interval
from pex_lightning.errors import UserError


@pytest.mark.parametrize("start", [0, 3, 10, -4])
def test_what_is_due_is_told_in_three_ways(start: int) -> None:
    interval = Interval(7, start)
    due = [step for step in range(1, 60) if interval.due(step)]
    assert due == [step for step in range(1, 60) if step > start and (step - start) % 7 == 0]
    for step in range(50):
        assert interval.next_after(step) == min(found for found in due if found > step)
        for end in range(step + 1, 50):
            times = {found for found in due if step < found <= end} | {end}
            assert interval.times_left(step, end) == len(times)


@pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0, 1.1, 1.4, 2.0, 2.2, 2.5, 20.0])
@pytest.mark.parametrize("initial", [0, 4_000])
@pytest.mark.parametrize("most", [45_000, 63_000])
def test_a_stage_ends_with_the_environment_steps_that_are_wanted(
    ratio: float, initial: int, most: int
) -> None:
    alternation = Alternation(5_000, initial, ratio, max_env_steps=most)
    end = alternation.end(-1)
    assert alternation.env_steps(end) == most
    assert alternation.env_steps(end - 1) < most
    assert alternation.end(end - 1) == end - 1
    assert alternation.end(end + 1) == end
    assert Alternation(5_000, initial, ratio).end(123) == 123
    alternation.check_end(end)
    with pytest.raises(UserError, match=f"Give it max_steps={end}"):
        alternation.check_end(end + 1)


@pytest.mark.parametrize("start_steps", [2_500, 5_000, 6_000])
@pytest.mark.parametrize("env_steps", [1_000, 5_000, 10_000])
@pytest.mark.parametrize(("initial", "ratio"), [(0, 1.0), (4_000, 2.0), (0, 20.0), (100, 0.5)])
def test_evaluations_of_all_methods_are_at_the_same_environment_steps(
    start_steps: int, env_steps: int, initial: int, ratio: float
) -> None:
    alternation = Alternation(start_steps, initial, ratio)
    interval = alternation.interval(env_steps)
    end = initial + round(20_000 * ratio)
    found, step = [], 0
    while (step := interval.next_after(step)) <= end:
        found.append(alternation.env_steps(step))
    wanted = range(0, start_steps + 20_001, env_steps)
    assert found == [steps for steps in wanted if steps > start_steps]


@pytest.mark.parametrize(
    ("start_steps", "ratio", "env_steps"),
    [(5_000, 0.5, 25), (5_000, 1.1, 5), (2_503, 0.5, 10), (5_000, 1e-6, 1)],
)
def test_evaluations_that_would_drift_are_refused(
    start_steps: int, ratio: float, env_steps: int
) -> None:
    alternation = Alternation(start_steps, 0, ratio)
    with pytest.raises(UserError, match=f"every_env_steps is {env_steps}; with --data.updates_per"):
        alternation.interval(env_steps)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1e-7, 1e7, math.inf, math.nan])
def test_a_ratio_without_meaning_is_refused(ratio: float) -> None:
    with pytest.raises(
        UserError, match=r"updates_per_step is .*; it must be between 0.000001 and 1,000,000"
    ):
        Alternation(5_000, 0, ratio)


def test_fewer_steps_than_come_before_the_first_update_are_refused() -> None:
    with pytest.raises(UserError, match="max_env_steps is 5000; it must be more than the 5,000"):
        Alternation(5_000, 0, 1.0, max_env_steps=5_000)
