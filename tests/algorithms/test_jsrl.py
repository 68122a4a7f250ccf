"""JSRL's curriculum, and who acted in what a run collected."""

from __future__ import annotations

from typing import Any

import pytest

from pex_lightning.algorithms.jsrl import JSRL
from pex_lightning.errors import UserError


def attached(toy: Any, **settings: Any) -> JSRL:
    module = toy.algorithm("JSRL", guide_steps=100, curriculum_stages=4, **settings)
    module.attach(toy.description())
    return module


def horizon(module: JSRL) -> float:
    return float(module.acting_policy().guide_steps.steps)


def test_the_curriculum_advances_while_returns_are_not_worse(toy: Any) -> None:
    module = attached(toy, curriculum_window=2, curriculum_tolerance=0.05)
    steps = []
    #          mean of two:   10,  10,  9.6, 9.1 (too low), 9.3, 10, 10.5, 11
    for value in (10.0, 10.0, 9.2, 9.0, 9.6, 10.4, 10.6, 11.4):
        module.on_evaluation({"eval/return": value})
        steps.append(horizon(module))
    # The first evaluation has nothing to be compared with; 9.3 is still below 9.5.
    assert steps == [100, 75, 50, 50, 50, 25, 0, 0]


def test_returns_below_zero_may_lack_as_much_as_those_above(toy: Any) -> None:
    module = attached(toy, curriculum_window=1, curriculum_tolerance=0.1)
    for value, steps in ((-10.0, 100), (-10.9, 75), (-11.1, 75), (-10.0, 50)):
        module.on_evaluation({"eval/return": value})
        assert horizon(module) == steps


def test_a_resumed_run_goes_on_in_its_stage(toy: Any) -> None:
    module = attached(toy)
    for value in (1.0, 1.0, 1.0):
        module.on_evaluation({"eval/return": value})
    assert horizon(module) == 50
    other = attached(toy)
    other.load_state_dict(module.state_dict())
    assert horizon(other) == 50
    other.on_evaluation({"eval/return": 1.0})
    assert horizon(other) == 25


@pytest.mark.parametrize("schedule", ["random", "geometric"])
def test_other_schedules_do_not_look_at_evaluations(schedule: str, toy: Any) -> None:
    module = attached(toy, guide_schedule=schedule)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.on_evaluation({"eval/return": 1.0})
    assert all(bool((value == before[key]).all()) for key, value in module.state_dict().items())


def test_the_guide_collects_the_beginning_of_every_episode(toy: Any) -> None:
    module = toy.algorithm("JSRL", guide_steps=2)
    data = toy.online_data(start_steps=20)
    toy.fit(module, 5, data=data)
    rows = data._online[:]
    step = (rows["observation"][:, 0] * 10).round()
    assert rows["policy_index"].tolist() == (step >= 2).int().tolist()


def test_an_environment_without_a_limit_needs_a_number_of_guide_steps(toy: Any) -> None:
    module = toy.algorithm("JSRL")
    with pytest.raises(UserError, match=r"no time limit.*--model\.guide_steps"):
        module.attach(toy.description(max_episode_steps=0))
