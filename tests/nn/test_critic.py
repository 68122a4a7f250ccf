import pytest
import torch

from pex_lightning.nn.critic import Critic

_generator = torch.Generator().manual_seed(0)
OBSERVATION = torch.randn(6, 3, generator=_generator)
ACTION = torch.randn(6, 2, generator=_generator)


@pytest.mark.parametrize("num_q", [1, 2, 5])
def test_sizes_and_a_target_that_starts_as_q(num_q: int) -> None:
    critic = Critic(3, 2, [8, 8], num_q)
    q = critic.q(OBSERVATION, ACTION)
    assert q.shape == (num_q, 6)
    assert critic.v(OBSERVATION).shape == (6,)
    assert torch.equal(q, critic.target_q(OBSERVATION, ACTION))
    assert len({tuple(row.tolist()) for row in q}) == num_q


def test_no_q_function_is_refused() -> None:
    with pytest.raises(ValueError, match="num_q"):
        Critic(3, 2, [8], 0)


def test_q_depends_on_the_action_and_v_does_not_depend_on_q() -> None:
    critic = Critic(3, 2, [8, 8])
    other = critic.q(OBSERVATION, ACTION + 1)
    assert not torch.isclose(critic.q(OBSERVATION, ACTION), other).any()
    critic.v(OBSERVATION).sum().backward()
    assert all(p.grad is None for p in critic.q_net.parameters())


@pytest.mark.parametrize("num_q", [1, 2, 5])
def test_polyak_moves_the_target_and_nothing_else(num_q: int) -> None:
    critic = Critic(3, 2, [8, 8], num_q)
    with torch.no_grad():
        for parameter in critic.q_net.parameters():
            parameter.add_(torch.randn_like(parameter))
    q = [p.clone() for p in critic.q_net.parameters()]
    old = [p.clone() for p in critic.target_q_net.parameters()]
    critic.update_target(0.25)
    for before, source, after in zip(old, q, critic.target_q_net.parameters(), strict=True):
        torch.testing.assert_close(after, 0.75 * before + 0.25 * source)
        assert not torch.equal(after, before)
    for before, after in zip(q, critic.q_net.parameters(), strict=True):
        assert torch.equal(before, after)
    critic.update_target(1.0)
    assert torch.equal(critic.q(OBSERVATION, ACTION), critic.target_q(OBSERVATION, ACTION))


def test_the_target_takes_no_gradient_and_shares_no_memory_with_q() -> None:
    critic = Critic(3, 2, [8, 8])
    assert not critic.target_q(OBSERVATION, ACTION).requires_grad
    assert not any(p.requires_grad for p in critic.target_q_net.parameters())
    before = critic.target_q(OBSERVATION, ACTION)
    with torch.no_grad():
        for parameter in critic.q_net.parameters():
            parameter.zero_()
    assert torch.equal(critic.target_q(OBSERVATION, ACTION), before)


@pytest.mark.parametrize("num_q", [1, 2, 5])
def test_a_state_dict_carries_everything(num_q: int) -> None:
    source, receiver = Critic(3, 2, [8, 8], num_q), Critic(3, 2, [8, 8], num_q)
    with torch.no_grad():
        for parameter in source.target_q_net.parameters():
            parameter.add_(1.0)
    receiver.load_state_dict(source.state_dict())
    for name in ("q", "target_q"):
        ours, theirs = getattr(receiver, name), getattr(source, name)
        assert torch.equal(ours(OBSERVATION, ACTION), theirs(OBSERVATION, ACTION))
    assert torch.equal(receiver.v(OBSERVATION), source.v(OBSERVATION))


def test_the_least_of_two_targets_drawn_at_random() -> None:
    torch.manual_seed(0)
    critic = Critic(3, 2, [8], 5, min_q_of=2)
    observation, action = torch.randn(6, 3), torch.randn(6, 2)
    every = critic.target_q(observation, action)
    pairs = {(i, j): every[[i, j]].amin(0) for i in range(5) for j in range(i)}
    seen = set()
    for _ in range(200):
        found = critic.min_target_q(observation, action)
        seen |= {pair for pair, value in pairs.items() if torch.allclose(found, value)}
    assert seen == set(pairs)


def test_the_least_of_all_targets_is_the_default() -> None:
    critic = Critic(3, 2, [8], 5)
    observation, action = torch.randn(6, 3), torch.randn(6, 2)
    state = torch.get_rng_state()
    expected = critic.target_q(observation, action).amin(0)
    assert torch.equal(critic.min_target_q(observation, action), expected)
    assert torch.equal(torch.get_rng_state(), state)
