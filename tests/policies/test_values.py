"""Values that candidates are chosen by, each against its formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pex_lightning.errors import UserError
from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.choosing import Choosing
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.values import (
    BlendedValues,
    BlendWeight,
    CriticValues,
    LargerValues,
    RobustValues,
)

STATES = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
CANDIDATES = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(1))


def critic() -> Critic:
    return Critic(3, 2, [8], num_q=5)


def each(found: Critic) -> Tensor:
    """Q of every member of the ensemble, `[M, num_q, B]`."""
    return torch.stack([found.q(STATES, actions) for actions in CANDIDATES])


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("min", lambda q: q.amin(1)),
        ("mean", lambda q: q.mean(1)),
        ("upper", lambda q: q.mean(1) + 2 * q.std(1, correction=0)),
        ("lower", lambda q: q.mean(1) - 2 * q.std(1, correction=0)),
    ],
)
def test_bounds_over_the_ensemble(bound, expected) -> None:
    found = critic()
    values = CriticValues(found, bound, width=2.0)(STATES, CANDIDATES)
    torch.testing.assert_close(values, expected(each(found)))


def test_blended_values_move_from_the_offline_critic_to_the_online_one() -> None:
    offline, online = CriticValues(critic()), CriticValues(critic())
    weight = BlendWeight(steps=4)
    blend = BlendedValues(offline, online, weight)
    first, last = offline(STATES, CANDIDATES), online(STATES, CANDIDATES)
    for step, share in ((0, 0.0), (1, 0.25), (4, 1.0), (5, 1.0)):
        weight.follow(step)
        expected = (1 - share) * first + share * last
        torch.testing.assert_close(blend(STATES, CANDIDATES), expected)
    larger = LargerValues(offline, online)(STATES, CANDIDATES)
    assert torch.equal(larger, torch.maximum(first, last))


def test_rpex_adds_its_term_to_the_logits() -> None:
    found = critic()
    policies = [GaussianPolicy(3, (-1.0, -1.0), (1.0, 1.0), [8]) for _ in range(2)]
    pi = PolicySet(policies[:1], policies[1])
    plain = CriticValues(found)(STATES, CANDIDATES)
    values = RobustValues(CriticValues(found), found, pi, 0.1, 3.0)(STATES, CANDIDATES)
    for member in range(2):
        density = policies[member].log_prob(STATES, CANDIDATES[member]).exp()
        ratio = (plain[member] - found.v(STATES)) / (density + 1e-6)
        logits = 3.0 * plain[member] + 0.1 * ratio.clamp(-1e4, 100)
        torch.testing.assert_close(3.0 * values[member], logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inv_temperature_end": 1.0, "target_entropy": 0.5}, "give one of them"),
        ({"rule": "greedy", "target_entropy": 0.5}, "has no inverse temperature to change"),
        ({"inv_temperature": 0.0, "target_entropy": 0.5}, "must be above 0"),
        ({"inv_temperature": 0.0, "rpex_scale": 0.1}, "must be above 0"),
        ({"rule": "uniform", "rpex_scale": 0.1}, "adds to the logits of a Boltzmann choice"),
        ({"rule": "best"}, r"--model\.choice is best"),
        ({"values": "old"}, r"--model\.choice_values is old"),
        ({"bound": "max"}, r"--model\.value_bound is max"),
        ({"bound_width": -1.0}, r"--model\.bound_width is -1"),
        ({"target_entropy": 1.0}, r"--model\.target_entropy is 1"),
        ({"epsilon": 1.5}, r"--model\.choice_epsilon is 1.5"),
    ],
)
def test_settings_that_do_not_work_are_refused(settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Choosing(**settings)
