import math

import pytest
import torch

from pex_lightning.losses.density import density_priority, density_ratio_loss


def test_the_loss_by_hand() -> None:
    offline, online = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 0.5])
    loss = density_ratio_loss(offline, online)
    first = (-math.log(2 / 2) - math.log(2 / 4)) / 2
    second = (math.log(2 / 2) + math.log(1 / 1.5)) / 2
    assert loss.item() == pytest.approx(first - second)


def test_a_ratio_of_zero_gives_a_finite_loss() -> None:
    assert density_ratio_loss(torch.zeros(3), torch.zeros(3)).isfinite()


def test_the_loss_is_least_at_the_ratio_of_the_densities() -> None:
    """Of two rows the first makes a fifth of the offline and four of the online ones."""
    w = torch.tensor([1.0, 1.0], requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.05)
    offline = torch.tensor([0] * 2 + [1] * 8)
    online = torch.tensor([0] * 8 + [1] * 2)
    for _ in range(2_000):
        optimizer.zero_grad()
        density_ratio_loss(w[offline], w[online]).backward()
        optimizer.step()
    torch.testing.assert_close(w.detach(), torch.tensor([4.0, 0.25]), rtol=0.02, atol=0)


def test_priorities_by_hand() -> None:
    """The fifth roots, over the mean of those of offline rows, between 0.001 and 1000."""
    priority = density_priority(
        torch.tensor([32.0, 1.0, 0.0, 1e30]), torch.tensor([1.0, 243.0]), 5.0
    )
    torch.testing.assert_close(priority, torch.tensor([1.0, 0.5, 0.001, 1000.0]))


def test_priorities_are_finite_where_no_offline_row_has_a_ratio() -> None:
    assert density_priority(torch.ones(2), torch.zeros(2), 5.0).tolist() == [1000.0, 1000.0]
