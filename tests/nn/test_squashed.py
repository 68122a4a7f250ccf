import pytest
import torch
from torch.distributions import AffineTransform, Normal, TanhTransform
from torch.distributions.transformed_distribution import TransformedDistribution

from pex_lightning.nn.distributions import DISTRIBUTIONS, policy_from_state
from pex_lightning.nn.squashed import SquashedGaussianPolicy

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
STATES = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def policy() -> SquashedGaussianPolicy:
    torch.manual_seed(1)
    return SquashedGaussianPolicy(3, LOW, HIGH, (16,))


def reference(net: SquashedGaussianPolicy) -> TransformedDistribution:
    mean, log_std = net.net(STATES).chunk(2, -1)
    centre, half = torch.tensor([0.0, 0.75]), torch.tensor([1.0, 1.25])
    squash = [TanhTransform(cache_size=1), AffineTransform(centre, half, cache_size=1)]
    return TransformedDistribution(Normal(mean, log_std.exp()), squash)


def test_density_is_that_of_the_squashed_gaussian() -> None:
    net = policy()
    action = reference(net).sample()
    expected = reference(net).log_prob(action).sum(-1)
    torch.testing.assert_close(net.log_prob(STATES, action), expected, rtol=1e-3, atol=1e-3)


def test_a_sample_has_the_density_that_is_told_with_it() -> None:
    net = policy()
    action, log_prob = net.rsample(STATES)
    torch.testing.assert_close(net.log_prob(STATES, action), log_prob, rtol=1e-3, atol=1e-3)
    action.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_samples_follow_the_distribution() -> None:
    net = policy()
    many = torch.stack([net.sample(STATES) for _ in range(4_000)])
    expected = torch.stack([reference(net).sample() for _ in range(4_000)])
    torch.testing.assert_close(many.mean(0), expected.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(many.std(0), expected.std(0), atol=0.1, rtol=0)


@pytest.mark.parametrize("kind", list(DISTRIBUTIONS.values()))
def test_actions_stay_within_the_action_space(kind) -> None:
    torch.manual_seed(0)
    net = kind(3, LOW, HIGH, (8,))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(30.0)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    for action in (net.mode(STATES), net.sample(STATES), net.rsample(STATES)[0]):
        assert ((action >= low) & (action <= high)).all()
        assert torch.isfinite(net.log_prob(STATES, action)).all()
        assert torch.isfinite(net.rsample(STATES)[1]).all()


def test_the_border_has_a_finite_density_and_gradient() -> None:
    net = policy()
    border = torch.tensor(HIGH).expand(40, 2)
    net.log_prob(STATES, border).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("kind", list(DISTRIBUTIONS.values()))
def test_a_policy_comes_back_from_its_state(kind) -> None:
    net = kind(3, LOW, HIGH, (8, 5))
    again = policy_from_state(net.state_dict())
    assert type(again) is kind
    assert torch.equal(again.mode(STATES), net.mode(STATES))


def test_the_gaussian_says_the_density_of_the_sample_before_it_was_clipped() -> None:
    net = DISTRIBUTIONS["gaussian"](3, LOW, HIGH, (8,))
    with torch.no_grad():
        net.log_std.fill_(2.0)
    action, log_prob = net.rsample(STATES)
    clipped = (action == torch.tensor(LOW)) | (action == torch.tensor(HIGH))
    assert clipped.any()
    inside = ~clipped.any(-1)
    told = net.log_prob(STATES, action)
    torch.testing.assert_close(told[inside], log_prob[inside])
    assert (told[~inside] > log_prob[~inside]).all()
    log_prob.sum().backward()
    assert torch.equal(net.log_std.grad, torch.full((2,), -40.0))
