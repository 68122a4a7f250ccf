import math

import pytest
import torch

from pex_lightning.losses.calql import calibrated_regulariser

Q_DATA = torch.tensor([[1.0]])
Q_RANDOM = torch.tensor([[[0.5]]])
Q_POLICY = torch.tensor([[[2.0], [-3.0]]])
DENSITY = torch.tensor([[-1.0], [0.5]])


@pytest.mark.parametrize("reference", [None, -1.0, 4.0])
def test_the_regulariser_by_hand(reference: float | None) -> None:
    lowest = -math.inf if reference is None else reference
    terms = [0.5 + math.log(4.0), max(2.0, lowest) + 1.0, max(-3.0, lowest) - 0.5]
    expected = math.log(sum(math.exp(term) for term in terms)) - 1.0
    bound = None if reference is None else torch.tensor([reference])
    found = calibrated_regulariser(
        Q_DATA, Q_RANDOM, Q_POLICY, torch.tensor(-math.log(4.0)), DENSITY, bound
    )
    assert found.item() == pytest.approx(expected)


def test_values_below_the_reference_are_not_pushed_down_further() -> None:
    policy = Q_POLICY.clone().requires_grad_(True)
    calibrated_regulariser(
        Q_DATA, Q_RANDOM, policy, torch.tensor(0.0), DENSITY, torch.tensor([0.0])
    ).backward()
    above, below = policy.grad.flatten().tolist()
    assert above > 0
    assert below == 0


def test_it_sums_over_q_functions_and_averages_over_rows() -> None:
    q = torch.randn(3, 5)
    random, policy = torch.randn(3, 4, 5), torch.randn(3, 8, 5)
    density = torch.randn(8, 5)

    def of(i, j):
        row = (q[i, j].view(1, 1), random[i, :, j].view(1, 4, 1), policy[i, :, j].view(1, 8, 1))
        return calibrated_regulariser(*row, torch.tensor(-1.0), density[:, j : j + 1], None)

    expected = sum(of(i, j) for i in range(3) for j in range(5)) / 5
    found = calibrated_regulariser(q, random, policy, torch.tensor(-1.0), density, None)
    torch.testing.assert_close(found, expected)
