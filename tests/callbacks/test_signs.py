"""Each sign, on crafted metrics: what is one, and what looks like one."""

from collections.abc import Mapping
from typing import Any

import pytest

from pex_lightning.callbacks.signs import SIGNS, Seen, Thresholds

HEALTHY = {
    "train/admitted": 1.0,
    "train/offline_policy_share": 0.4,
    "train/online_policy_share": 0.6,
    "train/choice_entropy_fraction": 0.5,
    "train/q_disagreement": 1.0,
    "train/q_size": 50.0,
    "train/weight_at_cap": 0.1,
    "train/weight_near_zero": 0.3,
    "eval/starts_kept": 9.0,
    "eval/starts_lost": 1.0,
    "eval/starts_won": 3.0,
}


def seen(changes: Mapping[str, Any], members: tuple[str, ...] = ("offline", "online")) -> set[str]:
    now = {key: value for key, value in {**HEALTHY, **changes}.items() if value is not None}
    look = Seen(now, HEALTHY, members, Thresholds())
    return {sign.name for sign in SIGNS if sign.found(look) is not None}


def shares(offline: float) -> dict[str, float]:
    return {"train/offline_policy_share": offline, "train/online_policy_share": 1.0 - offline}


@pytest.mark.parametrize(
    ("name", "changes", "less"),
    [
        ("offline_share_near_0", shares(0.01), shares(0.03)),
        ("offline_share_near_1", shares(0.99), shares(0.97)),
        (
            "entropy_collapsed",
            {"train/choice_entropy_fraction": 0.01},
            {"train/choice_entropy_fraction": 0.03},
        ),
        ("disagreement_grows", {"train/q_disagreement": 6.0}, {"train/q_disagreement": 4.5}),
        ("weights_at_cap", {"train/weight_at_cap": 0.6}, {"train/weight_at_cap": 0.4}),
        ("weights_near_0", {"train/weight_near_zero": 0.96}, {"train/weight_near_zero": 0.94}),
        (
            "starts_lost",
            {"eval/starts_kept": 7.0, "eval/starts_lost": 3.0, "eval/starts_won": 1.0},
            {"eval/starts_kept": 8.0, "eval/starts_lost": 2.0, "eval/starts_won": 0.0},
        ),
    ],
)
def test_a_sign_is_seen_beyond_its_threshold_alone(
    name: str, changes: dict[str, float], less: dict[str, float]
) -> None:
    assert seen(changes) == {name}
    assert seen(less) == set()


def test_every_sign_has_advice_that_any_method_can_follow_or_names_a_setting() -> None:
    for sign in SIGNS:
        assert sign.tries
        for advice in sign.tries:
            assert "--" in advice.text
            assert advice.setting is None or f"--model.{advice.setting}" in advice.text


@pytest.mark.parametrize("offline", [0.0, 1.0])
@pytest.mark.parametrize("admitted", [0.5, None])
def test_shares_say_nothing_while_the_learner_is_held_back_or_members_take_turns(
    offline: float, admitted: float | None
) -> None:
    assert seen({**shares(offline), "train/admitted": admitted}) == set()


def test_the_shares_of_several_offline_members_are_added() -> None:
    three = ("walker", "runner", "new")
    apart = {"train/walker_policy_share": 0.0, "train/runner_policy_share": 0.5}
    assert seen({**apart, "train/new_policy_share": 0.5}, three) == set()
    assert seen({**apart, "train/new_policy_share": 0.995}, three) == {"offline_share_near_0"}


def test_disagreement_that_grows_no_faster_than_q_is_no_sign() -> None:
    assert seen({"train/q_disagreement": 20.0, "train/q_size": 1500.0}) == set()
    assert seen({"train/q_disagreement": 20.0, "train/q_size": 150.0}) == {"disagreement_grows"}


def test_starts_that_are_lost_by_chance_and_won_elsewhere_are_no_sign() -> None:
    lost = {"eval/starts_kept": 25.0, "eval/starts_lost": 25.0}
    assert seen({**lost, "eval/starts_won": 24.0}) == set()
    assert seen({**lost, "eval/starts_won": 5.0}) == {"starts_lost"}


def test_a_few_solved_starts_are_too_few() -> None:
    few = {"eval/starts_kept": 0.0, "eval/starts_lost": 4.0, "eval/starts_won": 0.0}
    assert seen(few) == set()


def test_what_is_not_logged_or_not_finite_is_no_sign() -> None:
    assert seen(dict.fromkeys(HEALTHY)) == set()
    assert seen(dict.fromkeys(HEALTHY, float("nan"))) == set()
