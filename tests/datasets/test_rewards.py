import json

import numpy as np
import pytest
import torch

from pex_lightning.datasets.rewards import RewardTransform, make_reward_transform
from pex_lightning.errors import UserError

RETURNS = np.array([100.0, 300.0, 150.0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", [0.0, 1.0]),
        ("subtract_one", [-1.0, 0.0]),
        ("scale_by_return_range", [0.0, 5.0]),
    ],
)
def test_transforms(name: str, expected: list[float]) -> None:
    transform = make_reward_transform(name, RETURNS)
    rewards = torch.tensor([[0.0], [1.0]])
    assert transform(rewards)[:, 0].tolist() == expected
    assert rewards[:, 0].tolist() == [0.0, 1.0]
    assert transform(rewards).dtype == torch.float32
    torch.testing.assert_close(transform.inverse(transform(rewards)), rewards)
    assert transform(1.0) == expected[1]


def test_scaled_returns_span_a_thousand() -> None:
    transform = make_reward_transform("scale_by_return_range", RETURNS)
    assert np.ptp(transform(RETURNS)) == pytest.approx(1000)


def test_round_trip_through_primitives() -> None:
    transform = make_reward_transform("scale_by_return_range", np.array([1.0, 4.0]))
    assert RewardTransform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


@pytest.mark.parametrize(
    ("returns", "found"),
    [([2.0, 2.0], "go from 2 to 2"), ([], "no complete episode"), ([0.0, np.inf], "to inf")],
)
def test_returns_without_a_range_are_refused(returns: list[float], found: str) -> None:
    with pytest.raises(UserError, match=found) as caught:
        make_reward_transform("scale_by_return_range", np.array(returns))
    assert "Use identity" in str(caught.value)


def test_unknown_names_and_keys_are_refused() -> None:
    with pytest.raises(UserError, match="'half', expected one of"):
        make_reward_transform("half", RETURNS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="found the keys"):
        RewardTransform.from_dict({"scale": 1.0})
    with pytest.raises(UserError, match="scale must not be 0"):
        RewardTransform(scale=0.0)
