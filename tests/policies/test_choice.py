import math

import pytest
import torch

from pex_lightning.policies.admission import Admission
from pex_lightning.policies.choice import (
    Boltzmann,
    ChoiceRule,
    EpsilonGreedy,
    Uniform,
    choice_rule,
    draw,
    entropy,
)
from pex_lightning.policies.temperature import AdaptedTemperature, ScheduledTemperature


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


def test_epsilon_greedy_shares_epsilon_among_all() -> None:
    values = torch.tensor([[1.0, -5.0], [2.0, -7.0], [0.0, -6.0]])
    probs = EpsilonGreedy(0.3).probs(values)
    torch.testing.assert_close(probs, torch.tensor([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]))
    greedy = choice_rule("greedy", 3.0, epsilon=0.3)
    assert greedy.probs(values).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert greedy.best(values).tolist() == [1, 0]


def test_uniform_favours_nobody() -> None:
    torch.manual_seed(0)
    values = torch.tensor([[100.0], [0.0]]).expand(2, 10_000)
    rule = choice_rule("uniform", 3.0, 0.1)
    assert isinstance(rule, Uniform)
    assert rule.probs(values).unique().tolist() == [0.5]
    assert rule.best(values).float().mean().item() == pytest.approx(0.5, abs=0.02)
    admitted = Admission(rule)
    admitted.share.fill_(0.0)
    assert not admitted.best(values).any()


def test_entropy_of_certain_and_of_even_choices() -> None:
    found = entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert found.tolist() == pytest.approx([0.0, math.log(2)])


def test_a_scheduled_temperature_goes_linearly_and_stays() -> None:
    temperature = ScheduledTemperature(2.0, 10.0, steps=4)
    rule, values = Boltzmann(temperature), torch.tensor([[0.0], [0.1]])
    for step, scale in ((0, 2.0), (1, 4.0), (3, 8.0), (4, 10.0), (9, 10.0)):
        temperature.follow(step)
        assert temperature.value.item() == scale
        assert torch.equal(rule.probs(values), Boltzmann(scale).probs(values))


@pytest.mark.parametrize("start", [0.1, 50.0])
def test_an_adapted_temperature_settles_at_its_entropy(start: float) -> None:
    values = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    temperature = AdaptedTemperature(start, target=0.6, members=3)
    rule = Boltzmann(temperature)
    optimizer = torch.optim.Adam(temperature.parameters(), lr=0.05)
    for _ in range(400):
        loss = temperature.loss(entropy(rule.probs(values)).mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert entropy(rule.probs(values)).mean().item() == pytest.approx(0.6 * math.log(3), abs=0.01)


def test_a_boltzmann_choice_tells_the_fraction_of_its_largest_entropy() -> None:
    values = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    for scale in (0.0, 1.0, 5.0):
        rule = Boltzmann(scale)
        expected = entropy(rule.probs(values)).mean() / math.log(3)
        torch.testing.assert_close(rule.diagnose(values)["choice_entropy_fraction"], expected)
    changing = Boltzmann(AdaptedTemperature(2.0, target=0.6, members=3))
    assert changing.diagnose(values)["inv_temperature"].item() == pytest.approx(2.0)
    assert not changing.diagnose(values)["inv_temperature"].requires_grad
    # A choice between one is certain.
    assert rule.diagnose(values[:1]) == {}


@pytest.mark.parametrize("rule", [EpsilonGreedy(0.1), Uniform()])
def test_rules_whose_entropy_is_set_tell_none(rule: ChoiceRule) -> None:
    assert rule.diagnose(torch.randn(3, 64)) == {}
