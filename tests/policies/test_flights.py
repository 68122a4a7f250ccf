"""BT's acting policy: how often flights begin, how long they last, and who acts in them."""

from __future__ import annotations

import pytest
import torch

from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.flights import Flights, ZetaLengths
from pex_lightning.policies.policy_set import PolicySet

STATES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def flights(probability: float, lengths: ZetaLengths) -> Flights:
    policies = [GaussianPolicy(3, (-1.0, -1.0), (1.0, 1.0), [8]) for _ in range(2)]
    return Flights(PolicySet(policies[:1], policies[1]), lengths, probability)


class Three(ZetaLengths):
    """Every flight has three steps."""

    def draw(self, like: torch.Tensor) -> torch.Tensor:
        return torch.full_like(like, 3.0)


def test_lengths_follow_the_cut_zeta_distribution() -> None:
    torch.manual_seed(0)
    drawn = ZetaLengths(2.0, 4).draw(torch.zeros(200_000))
    weights = torch.tensor([1.0, 1 / 4, 1 / 9, 1 / 16])
    shares = torch.bincount(drawn.long(), minlength=5)[1:] / 200_000
    torch.testing.assert_close(shares, weights / weights.sum(), atol=0.005, rtol=0)


def test_a_flight_lasts_its_steps_and_is_the_guides_mode() -> None:
    policy = flights(1.0, Three(2.0, 9))
    guide = policy.policies.modes(STATES)[0]
    memory = policy.initial_memory(STATES)
    left = []
    for _ in range(4):
        action, index, probs, memory = policy.act(STATES, memory)
        assert index.tolist() == [0] * 5
        assert probs.tolist() == [[1.0, 0.0]] * 5
        assert torch.equal(action, guide)
        left.append(memory[0, 0].item())
    # After the third step the next flight begins.
    assert left == [2, 1, 0, 2]


def test_flights_begin_with_their_probability_outside_of_flights_alone() -> None:
    torch.manual_seed(0)
    policy = flights(0.25, Three(2.0, 9))
    states = torch.zeros(4_000, 3)
    first = policy.act(states, policy.initial_memory(states))
    assert (first.policy_index == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    under_way = torch.full((4_000, 1), 2.0)
    assert (policy.act(states, under_way).policy_index == 0).all()
    assert (policy.act(states, under_way).memory == 1).all()


def test_without_flights_the_learner_samples_alone() -> None:
    policy = flights(0.0, ZetaLengths(2.0, 9))
    first = policy.act(STATES, policy.initial_memory(STATES))
    assert first.policy_index.tolist() == [1] * 5
    assert not torch.equal(first.action, policy.policies.modes(STATES)[1])


def test_evaluation_is_by_the_learners_mode() -> None:
    policy = flights(1.0, Three(2.0, 9))
    action, _ = policy.evaluation_action(STATES, policy.initial_memory(STATES))
    assert torch.equal(action, policy.policies.learner.mode(STATES))
