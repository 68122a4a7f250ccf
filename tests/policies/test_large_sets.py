"""Policy sets of many members: batched evaluation, places, masks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.nn.squashed import SquashedGaussianPolicy
from pex_lightning.policies.admission import Admission
from pex_lightning.policies.choice import Boltzmann, ChoiceRule, EpsilonGreedy, Uniform
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.feed_forward import ACTIVATIONS, FeedForwardPolicy
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.stacked import StackedNets
from pex_lightning.policies.temperature import AdaptedTemperature
from pex_lightning.policies.values import CriticValues

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
STATES = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))


def gaussian(*sizes: int) -> GaussianPolicy:
    return GaussianPolicy(3, LOW, HIGH, sizes or [8])


def plain(activation: int, squashed: bool) -> FeedForwardPolicy:
    return FeedForwardPolicy([3, 8, 2], LOW, HIGH, activation, squashed)


class Still(nn.Module):
    """A member of another kind."""

    def mode(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :2].clamp(-0.5, 0.5)


def mixed() -> PolicySet:
    members = [
        gaussian(),
        gaussian(16, 4),
        SquashedGaussianPolicy(3, LOW, HIGH, [8]),
        gaussian(),
        plain(0, True),
        Still(),
        plain(1, True),
        plain(0, True),
        SquashedGaussianPolicy(3, LOW, HIGH, [8]),
        plain(0, False),
        gaussian(16, 4),
    ]
    return PolicySet(members, gaussian(), [*map(str, range(len(members))), "learner"])


def one_by_one(policies: PolicySet) -> torch.Tensor:
    return torch.stack([member.mode(STATES) for member in [*policies.frozen, policies.learner]])


def test_equal_members_are_evaluated_together_and_propose_the_same() -> None:
    policies = mixed()
    assert policies._groups == [[0, 3], [1, 10], [2, 8], [4, 7]]
    torch.testing.assert_close(policies.modes(STATES), one_by_one(policies))
    torch.testing.assert_close(policies.candidates(STATES)[:-1], one_by_one(policies)[:-1])


def test_a_batched_call_costs_one_product_a_layer() -> None:
    policies = PolicySet([gaussian() for _ in range(16)], gaussian(), list(map(str, range(17))))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        policies.modes(STATES)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::baddbmm"] == 2
    # The learner's.
    assert calls["aten::linear"] == 2


def test_copies_follow_what_is_set_and_loaded_and_moved() -> None:
    policies = mixed()
    new = gaussian()
    policies.set_frozen(3, new.state_dict())
    torch.testing.assert_close(policies.modes(STATES)[3], new.mode(STATES))
    other = mixed()
    other.load_state_dict(policies.state_dict())
    torch.testing.assert_close(other.modes(STATES), policies.modes(STATES))
    torch.testing.assert_close(copy.deepcopy(other).modes(STATES), policies.modes(STATES))
    # A member of other sizes leaves its group; back again, it joins.
    policies.set_frozen(0, gaussian(5).state_dict())
    assert policies._groups == [[1, 10], [2, 8], [4, 7]]
    torch.testing.assert_close(policies.modes(STATES), one_by_one(policies))
    policies.set_frozen(0, new.state_dict())
    assert policies._groups == [[0, 3], [1, 10], [2, 8], [4, 7]]
    torch.testing.assert_close(policies.modes(STATES), one_by_one(policies))


def test_no_parameter_is_in_the_state_dict_twice() -> None:
    keys = PolicySet([gaussian(), gaussian()], gaussian(), "abc").state_dict()
    assert {key.split(".")[0] for key in keys} == {"frozen", "learner"}


def test_a_set_takes_on_kinds_and_activations_of_a_state_dict() -> None:
    saved = PolicySet([plain(1, False), plain(0, True)], gaussian(), "abc")
    loaded = PolicySet([gaussian(), gaussian()], gaussian(), "abc")
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.modes(STATES), saved.modes(STATES))
    # Of the same shapes, but with another activation.
    again = PolicySet([plain(0, False), plain(0, True)], gaussian(), "abc")
    again.load_state_dict(saved.state_dict())
    assert torch.equal(again.modes(STATES), saved.modes(STATES))


def test_a_member_that_learns_is_not_evaluated_from_a_copy() -> None:
    policies = PolicySet([gaussian(), gaussian(), gaussian()], gaussian(), "abcd")
    policies.train_offline(True)
    learns = [p.requires_grad for p in policies.frozen.parameters()]
    assert learns == [True] * (len(learns) // 3) + [False] * (2 * len(learns) // 3)
    with torch.no_grad():
        for parameter in policies.frozen[0].parameters():
            parameter.normal_()
    torch.testing.assert_close(policies.modes(STATES), one_by_one(policies))
    assert policies._groups == [[1, 2]]


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", range(len(ACTIVATIONS)))
def test_stacked_nets_have_norms_and_every_activation(activation: int, outputs: int) -> None:
    def net() -> nn.Sequential:
        norm = nn.LayerNorm(6)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        return nn.Sequential(
            nn.Linear(3, 6), norm, ACTIVATIONS[activation](), nn.Linear(6, outputs)
        )

    nets = [net(), net(), net()]
    stacked = StackedNets(nets)
    torch.testing.assert_close(stacked(STATES), torch.stack([net(STATES) for net in nets]))
    others = [net(), net(), net()]
    address = stacked.weight_0.data_ptr()
    stacked.copy(others)
    assert stacked.weight_0.data_ptr() == address
    torch.testing.assert_close(stacked(STATES), torch.stack([net(STATES) for net in others]))


def test_a_layer_that_cannot_be_stacked_is_noticed() -> None:
    with pytest.raises(AssertionError, match="not stacked"):
        StackedNets([nn.Sequential(nn.Linear(3, 3), nn.PReLU())] * 2)


@pytest.mark.parametrize("activation", range(len(ACTIVATIONS)))
@pytest.mark.parametrize("squashed", [True, False])
def test_a_plain_perceptron_stays_inside_and_is_what_its_state_says(
    activation: int, squashed: bool
) -> None:
    policy = plain(activation, squashed)
    with torch.no_grad():
        policy.net[-1].weight.mul_(30)
    modes = policy.mode(STATES)
    assert ((modes >= torch.tensor(LOW)) & (modes <= torch.tensor(HIGH))).all()
    assert modes.std() > 0.3
    again = FeedForwardPolicy.from_state(policy.state_dict())
    assert torch.equal(again.mode(STATES), modes)


RULES = pytest.mark.parametrize(
    "rule", [Boltzmann(3.0), Boltzmann(0.0), EpsilonGreedy(0.3), Uniform()], ids=repr
)


@RULES
def test_empty_places_are_as_if_they_were_not_there(rule: ChoiceRule) -> None:
    torch.manual_seed(0)
    values = torch.randn(5, 200)
    filled = torch.tensor([True, True, False, False, True])
    # An empty place may have any value.
    values[2:4] += 1000.0
    there = values[filled]
    for share in (0.0, 0.4, 1.0):
        admission = Admission(rule)
        admission.share.fill_(share)
        probs = admission.probs(values, filled)
        assert (probs[:, 2:4] == 0).all()
        torch.testing.assert_close(probs[:, filled], admission.probs(there))
    assert torch.isin(rule.best(values, filled), torch.tensor([0, 1, 4])).all()
    if not isinstance(rule, Uniform):
        expected = torch.tensor([0, 1, 4])[rule.best(there)]
        assert torch.equal(rule.best(values, filled), expected)
    every = torch.ones(5, dtype=torch.bool)
    torch.testing.assert_close(rule.probs(values, every), rule.probs(values))


def test_places_are_filled_in_the_memory_that_is_there() -> None:
    policies = PolicySet([gaussian() for _ in range(3)], gaussian(), "abcd", places=2)
    assert policies.filled is not None
    assert policies.filled.tolist() == [True, False, False, True]
    acting = CompositePolicy(
        policies, CriticValues(Critic(3, 2, [8], 2)), Admission(Uniform()), eval_epsilon=0.5
    )
    memory = acting.initial_memory(STATES)
    choice = acting.act(STATES, memory)
    assert set(choice.policy_index.tolist()) == {0, 3}
    assert choice.choice_probs.unique().tolist() == [0.0, 0.5]
    addresses = [t.data_ptr() for t in [*policies.parameters(), *policies.buffers()]]
    policies.fill(0, policies.learner.state_dict())
    assert addresses == [t.data_ptr() for t in [*policies.parameters(), *policies.buffers()]]
    assert policies.filled.tolist() == [True, True, False, True]
    assert torch.equal(policies.frozen[1].mode(STATES), policies.learner.mode(STATES))
    torch.testing.assert_close(policies.modes(STATES), one_by_one(policies))
    assert set(acting.act(STATES, memory).policy_index.tolist()) == {0, 1, 3}
    modes = policies.modes(STATES)
    action, _ = acting.evaluation_action(STATES, memory)
    assert not (action == modes[2]).all(-1).any()


def test_the_target_of_the_entropy_counts_the_members_that_are_there() -> None:
    temperature = AdaptedTemperature(3.0, 0.5, members=5)
    filled = torch.tensor([True, False, False, False, True])
    (gradient,) = torch.autograd.grad(
        temperature.loss(torch.tensor(0.2), filled), temperature.log_value
    )
    assert float(gradient) == pytest.approx(0.5 * math.log(2) - 0.2)
