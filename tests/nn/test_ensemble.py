import math

import pytest
import torch
from torch.distributions import Normal

from pex_lightning.nn.ensemble import EnsembleCritic, GaussianEnsemble

OBS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
ACTIONS = torch.rand(7, 2, generator=torch.Generator().manual_seed(1))


def policy(size: int = 4) -> GaussianEnsemble:
    made = GaussianEnsemble(size, 3, (-1.0, -0.5), (1.0, 2.0), (8,))
    with torch.no_grad():
        made.log_std.copy_(torch.randn(size, 2) - 1.0)
    return made


def test_the_one_gaussian_has_the_moments_of_the_mixture() -> None:
    """μ = mean μ_i, σ² = mean(μ_i² + σ_i²) − μ²."""
    made = policy()
    means, stds = made.member_modes(OBS), made.log_std.exp()[:, None]
    expected = (means.square() + stds.square()).mean(0) - means.mean(0).square()
    mean, log_std = made.moments(OBS)
    torch.testing.assert_close(mean, means.mean(0))
    torch.testing.assert_close(log_std.exp().square(), expected)
    torch.testing.assert_close(made.mode(OBS), mean)
    density = Normal(mean, log_std.exp()).log_prob(ACTIONS).sum(-1)
    torch.testing.assert_close(made.log_prob(OBS, ACTIONS), density)


def test_two_members_by_hand() -> None:
    made = policy(2)
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.zero_()
        # Means at the centre plus and minus half of the half-width.
        made.net.biases[-1][0] = math.atanh(0.5)
        made.net.biases[-1][1] = -math.atanh(0.5)
        made.log_std[0], made.log_std[1] = math.log(0.3), math.log(0.1)
    mean, log_std = made.moments(OBS[:1])
    torch.testing.assert_close(mean, torch.tensor([[0.0, 0.75]]))
    variance = [(0.09 + 0.01) / 2 + half**2 for half in (0.5, 0.625)]
    torch.testing.assert_close(log_std.exp().square(), torch.tensor([variance]))


def test_each_member_has_its_own_density() -> None:
    made = policy()
    densities = Normal(made.member_modes(OBS), made.log_std.exp()[:, None]).log_prob(ACTIONS)
    torch.testing.assert_close(made.member_log_probs(OBS, ACTIONS), densities.sum(-1))


def test_samples_follow_the_moments_and_stay_in_the_action_space() -> None:
    made = policy()
    with torch.no_grad():
        made.log_std.fill_(-2.0)
    states = OBS[:1].expand(20_000, 3)
    samples = made.sample(states)
    mean, log_std = made.moments(OBS[:1])
    torch.testing.assert_close(samples.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(samples.std(0), log_std.exp()[0], atol=0.02, rtol=0)
    with torch.no_grad():
        made.log_std.fill_(2.0)
    samples = made.sample(states)
    assert (samples >= made.action_low).all()
    assert (samples <= made.action_high).all()


def test_rsample_gives_the_density_of_the_sample_before_it_is_clipped() -> None:
    made = policy()
    torch.manual_seed(3)
    action, log_prob = made.rsample(OBS)
    torch.manual_seed(3)
    mean, log_std = made.moments(OBS)
    raw = mean + log_std.exp() * torch.randn_like(mean)
    torch.testing.assert_close(action, made.clip(raw))
    torch.testing.assert_close(log_prob, made.log_prob(OBS, raw))
    gradients = torch.autograd.grad(action.sum(), [made.log_std, *made.net.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_density_has_a_gradient_for_every_member() -> None:
    made = policy()
    _, log_prob = made.rsample(OBS)
    (gradient,) = torch.autograd.grad(log_prob.sum(), [made.log_std])
    assert (gradient != 0).all()


@pytest.mark.parametrize("min_q_of", [None, 2])
def test_every_agent_backs_up_its_own_least_target(min_q_of: int | None) -> None:
    critic = EnsembleCritic(3, 3, 2, (8,), 4, min_q_of=min_q_of)
    q = critic.target_q(OBS, ACTIONS)
    assert q.shape == (4, 3, 7)
    torch.manual_seed(0)
    found = critic.min_target_q(OBS, ACTIONS)
    chosen = list(range(4))
    if min_q_of is not None:
        torch.manual_seed(0)
        chosen = torch.rand(4).topk(2).indices.tolist()
    assert torch.equal(found, q[chosen].amin(0))


def test_the_values_of_an_agent_come_from_its_own_networks() -> None:
    critic = EnsembleCritic(3, 3, 2, (8,), 2)
    before = critic.q(OBS, ACTIONS), critic.target_q(OBS, ACTIONS), critic.v(OBS)
    assert [tuple(value.shape) for value in before] == [(2, 3, 7), (2, 3, 7), (3, 7)]
    with torch.no_grad():
        # Number 4 of six Q-functions is the second of agent 1.
        critic.q_net.biases[-1][4] += 1.0
        critic.target_q_net.biases[-1][4] += 2.0
        critic.v_net.biases[-1][1] += 3.0
    after = critic.q(OBS, ACTIONS), critic.target_q(OBS, ACTIONS), critic.v(OBS)
    change = torch.zeros(2, 3, 7)
    change[1, 1] = 1.0
    torch.testing.assert_close(after[0] - before[0], change)
    torch.testing.assert_close(after[1] - before[1], 2 * change)
    torch.testing.assert_close(after[2] - before[2], 3 * change[1])


def test_constant_parameters_get_no_gradient_while_the_action_does() -> None:
    critic = EnsembleCritic(3, 3, 2, (8,), 2)
    actions = ACTIONS.clone().requires_grad_()
    critic.q(OBS, actions, constant=True).sum().backward()
    assert actions.grad is not None
    assert all(parameter.grad is None for parameter in critic.parameters())
