import math

import pytest
import torch

from pex_lightning.losses.awac import awac_policy_loss

LOG_PROB = torch.tensor([-1.0, -2.0, 0.5])
ADVANTAGE = torch.tensor([0.0, 2.0, -4.0])


def test_exponential_weights_by_hand() -> None:
    found = awac_policy_loss(LOG_PROB, ADVANTAGE, 2.0, "exponential")
    weights = [1.0, math.e, math.exp(-2)]
    assert found.weight.tolist() == pytest.approx(weights)
    loss = (weights[0] * 1.0 + weights[1] * 2.0 + weights[2] * -0.5) / 3
    assert found.loss.item() == pytest.approx(loss)


def test_exponential_weights_are_capped_at_100() -> None:
    found = awac_policy_loss(LOG_PROB, 100 * ADVANTAGE, 1.0, "exponential")
    assert found.weight.tolist() == pytest.approx([1.0, 100.0, 0.0])


def test_softmax_weights_by_hand() -> None:
    found = awac_policy_loss(LOG_PROB, ADVANTAGE, 2.0, "softmax")
    total = 1.0 + math.e + math.exp(-2)
    weights = [3 / total, 3 * math.e / total, 3 * math.exp(-2) / total]
    assert found.weight.tolist() == pytest.approx(weights)
    assert found.weight.sum().item() == pytest.approx(3.0)
