import math

import numpy as np
import pytest
import torch

from pex_lightning.losses.iql import policy_diagnostics, policy_loss, q_loss, value_loss

RNG = np.random.default_rng(0)
B = 32


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.7, 0.9])
def test_value_loss_is_the_expectile_regression(expectile: float) -> None:
    target_q, value = random(B), random(B)
    total = 0.0
    for q, v in zip(target_q, value, strict=True):
        u = q - v
        total += abs(expectile - (1.0 if u < 0 else 0.0)) * u**2
    found = value_loss(torch.tensor(target_q), torch.tensor(value), expectile)
    assert found.loss.item() == pytest.approx(total / B)
    np.testing.assert_allclose(found.advantage, target_q - value)


@pytest.mark.parametrize("expectile", [0.7, 0.9])
def test_v_settles_at_the_expectile_of_the_targets(expectile: float) -> None:
    targets = torch.tensor(random(1000))
    value = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(
            value_loss(targets, value.expand(1000), expectile).loss, value
        )
        value = (value - gradient).detach().requires_grad_()
    above = (targets - value).clamp(min=0).sum()
    below = (value - targets).clamp(min=0).sum()
    # The first-order condition that defines an expectile.
    assert expectile * above.item() == pytest.approx((1 - expectile) * below.item(), rel=1e-3)


@pytest.mark.parametrize("num_q", [1, 2, 5])
def test_q_loss_sums_the_members_and_halves(num_q: int) -> None:
    q, reward, value = random(num_q, B), random(B), random(B)
    terminated = RNG.random(B) < 0.5
    target = [
        r + 0.9 * (0.0 if d else 1.0) * v for r, d, v in zip(reward, terminated, value, strict=True)
    ]
    expected = 0.5 * sum(np.mean((member - target) ** 2) for member in q)
    tensors = map(torch.tensor, (q, reward, terminated, value))
    found = q_loss(*tensors, gamma=0.9)
    assert found.loss.item() == pytest.approx(expected)
    np.testing.assert_allclose(found.td_target, target)


def test_termination_masks_the_bootstrap_even_of_an_infinite_value() -> None:
    terminated = torch.tensor([True, False])
    found = q_loss(torch.zeros(2, 2), torch.ones(2), terminated, torch.tensor([math.inf, 2.0]), 0.5)
    assert found.td_target.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0, 10.0])
def test_policy_loss_weights_the_log_density_and_caps_at_100(beta: float) -> None:
    log_prob, advantage = random(B), 2 * random(B)
    weights = [min(math.exp(beta * u), 100.0) for u in advantage]
    expected = np.mean([w * -p for w, p in zip(weights, log_prob, strict=True)])
    found = policy_loss(torch.tensor(log_prob), torch.tensor(advantage), beta)
    assert found.loss.item() == pytest.approx(expected)
    np.testing.assert_allclose(found.weight, weights)


def test_a_huge_advantage_weighs_exactly_100() -> None:
    found = policy_loss(torch.tensor([-1.0, -1.0]), torch.tensor([1e6, -1e6]), 10.0)
    assert found.weight.tolist() == [100.0, 0.0]
    assert found.loss.item() == 50.0


def test_the_advantage_given_on_is_detached() -> None:
    value = torch.zeros(B, requires_grad=True)
    found = value_loss(torch.ones(B), value, 0.7)
    assert found.loss.requires_grad
    assert not found.advantage.requires_grad


def test_the_shares_of_weights_at_the_cap_and_near_0_are_told() -> None:
    advantage = torch.tensor([5.0, 4.7, 4.5, 0.0, -4.5, -4.7, -4.8, -9.0])
    q = q_loss(torch.zeros(2, 8), torch.zeros(8), torch.zeros(8).bool(), torch.zeros(8), 0.9)
    found = policy_diagnostics(q, advantage, policy_loss(torch.zeros(8), advantage, 1.0))
    assert found["weight_at_cap"] == 2 / 8
    assert found["weight_near_zero"] == 3 / 8
