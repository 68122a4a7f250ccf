import pytest
import torch

from pex_lightning.nn.gaussian import GaussianPolicy

LOW, HIGH = (-1.0, 0.5, -3.0), (1.0, 2.0, -1.0)


@pytest.fixture
def policy() -> GaussianPolicy:
    return GaussianPolicy(4, LOW, HIGH, [8, 8])


def test_the_mean_covers_unequal_bounds_and_never_leaves_them(policy: GaussianPolicy) -> None:
    mode = policy.mode(1000 * torch.randn(500, 4))
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    assert ((mode >= low) & (mode <= high)).all()
    torch.testing.assert_close(mode.amin(0), low, atol=0.01, rtol=0)
    torch.testing.assert_close(mode.amax(0), high, atol=0.01, rtol=0)
    with torch.no_grad():
        for parameter in policy.net.parameters():
            parameter.zero_()
    torch.testing.assert_close(policy.mode(torch.randn(1, 4))[0], (low + high) / 2)


def test_the_mean_is_the_scaled_tanh_of_the_network(policy: GaussianPolicy) -> None:
    observation = torch.randn(6, 4)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    expected = low + (high - low) * (torch.tanh(policy.net(observation)) + 1) / 2
    torch.testing.assert_close(policy.mode(observation), expected)


@pytest.mark.parametrize(("raw", "used"), [(-9.0, -5.0), (-0.7, -0.7), (1.5, 1.5), (9.0, 2.0)])
def test_log_prob_is_that_of_a_normal_with_a_clipped_deviation(
    policy: GaussianPolicy, raw: float, used: float
) -> None:
    with torch.no_grad():
        policy.log_std.fill_(raw)
    observation, action = torch.randn(6, 4), torch.randn(6, 3)
    normal = torch.distributions.Normal(policy.mode(observation), torch.tensor(used).exp())
    expected = normal.log_prob(action).sum(-1)
    torch.testing.assert_close(policy.log_prob(observation, action), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("raw", "used"), [(-9.0, -5.0), (-2.5, -2.5), (9.0, 2.0)])
def test_samples_have_the_clipped_deviation_around_the_mean(raw: float, used: float) -> None:
    policy = GaussianPolicy(1, [-1e3], [1e3], [4])
    with torch.no_grad():
        policy.log_std.fill_(raw)
        for parameter in policy.net.parameters():
            parameter.zero_()
    sample = policy.sample(torch.zeros(20_000, 1))
    deviation = torch.tensor(used).exp()
    torch.testing.assert_close(sample.std(), deviation, rtol=0.03, atol=0)
    assert sample.mean().abs() < 0.03 * deviation


def test_samples_are_clipped_to_the_bounds(policy: GaussianPolicy) -> None:
    with torch.no_grad():
        policy.log_std.fill_(2.0)
    sample = policy.sample(torch.randn(500, 4))
    for i, (low, high) in enumerate(zip(LOW, HIGH, strict=True)):
        assert sample[:, i].min() == low
        assert sample[:, i].max() == high
        assert ((sample[:, i] > low) & (sample[:, i] < high)).any()


def test_log_prob_trains_every_parameter(policy: GaussianPolicy) -> None:
    policy.log_prob(torch.randn(6, 4), torch.randn(6, 3)).sum().backward()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_bad_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="2 entries"):
        GaussianPolicy(4, [-1.0, -1.0], [1.0], [8])
    with pytest.raises(ValueError, match="below"):
        GaussianPolicy(4, [-1.0, 1.0], [1.0, 1.0], [8])
