import math

import pytest
import torch

from pex_lightning.policies.choice import Boltzmann, draw


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("inv_temperature", [0.0, 0.5, 3.0, 1e4])
def test_probabilities_are_boltzmann_and_sum_to_one(members: int, inv_temperature: float) -> None:
    q = torch.randn(members, 7)
    probs = Boltzmann(inv_temperature).probs(q)
    assert probs.shape == (7, members)
    torch.testing.assert_close(probs.sum(-1), torch.ones(7))
    for row in range(7):
        best = max(q[:, row].tolist())
        weights = [math.exp(inv_temperature * (value - best)) for value in q[:, row].tolist()]
        expected = torch.tensor([weight / sum(weights) for weight in weights])
        torch.testing.assert_close(probs[row], expected)


def test_inv_temperature_zero_is_uniform_and_large_is_greedy() -> None:
    q = torch.tensor([[1.0, -5.0, 1e4], [2.0, -4.0, -1e4], [0.0, -9.0, 0.0]])
    torch.testing.assert_close(Boltzmann(0.0).probs(q), torch.full((3, 3), 1 / 3))
    greedy = Boltzmann(1e3).probs(q)
    assert torch.equal(greedy.argmax(-1), q.argmax(0))
    torch.testing.assert_close(greedy.amax(-1), torch.ones(3))


def test_draw_matches_its_probabilities_in_every_row() -> None:
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.1, 0.9], [1.0, 0.0, 0.0]])
    count = 20_000
    drawn = draw(rows.repeat_interleave(count, 0)).view(3, count)
    assert drawn.dtype == torch.int64
    shares = torch.stack([(drawn == member).float().mean(-1) for member in range(3)], -1)
    # Four standard errors of a share.
    torch.testing.assert_close(shares, rows, atol=4 * 0.5 / count**0.5, rtol=0)
    assert (shares[rows == 0] == 0).all()


def test_draw_never_leaves_the_set_where_rounding_leaves_a_gap() -> None:
    probs = torch.tensor([[0.3, 0.3]]).expand(1000, 2)
    assert set(draw(probs).tolist()) == {0, 1}


def test_draw_repeats_with_torchs_seed() -> None:
    probs = torch.softmax(torch.randn(100, 3), -1)
    first, second = (torch.manual_seed(seed) and draw(probs) for seed in (3, 3))
    assert torch.equal(first, second)
    torch.manual_seed(4)
    assert not torch.equal(first, draw(probs))
