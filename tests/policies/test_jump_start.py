"""JSRL's acting policy: whose turn it is, step by step, in each environment by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.jump_start import (
    FixedHorizon,
    GeometricHorizon,
    GuideSteps,
    JumpStart,
    UniformHorizon,
)
from pex_lightning.policies.policy_set import PolicySet

STATES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def jump_start(steps: GuideSteps, guided_evaluation: bool = True) -> JumpStart:
    policies = [GaussianPolicy(3, (-1.0, -1.0), (1.0, 1.0), [8]) for _ in range(2)]
    return JumpStart(PolicySet(policies[:1], policies[1]), steps, guided_evaluation)


def turns(policy: JumpStart, steps: int, evaluate: bool = False) -> Tensor:
    """Whether the guide acted, `[steps, 6]`."""
    memory, rows = policy.initial_memory(STATES), []
    guide = policy.policies.modes(STATES)[0]
    for _ in range(steps):
        if evaluate:
            action, memory = policy.evaluation_action(STATES, memory)
        else:
            action, index, probs, memory = policy.act(STATES, memory)
            assert torch.equal(probs.argmax(-1), index)
            assert torch.equal(probs.sum(-1), torch.ones(6))
            assert torch.equal(index == 0, (action == guide).all(-1))
        rows.append((action == guide).all(-1))
    return torch.stack(rows)


def test_the_guide_takes_the_first_steps_and_no_other() -> None:
    guided = turns(jump_start(FixedHorizon(3)), 5)
    assert guided.T.tolist() == [[True, True, True, False, False]] * 6


def test_without_guide_steps_the_learner_acts_alone() -> None:
    assert not turns(jump_start(FixedHorizon(0)), 3).any()


def test_a_new_episode_begins_with_the_present_horizon() -> None:
    horizon = FixedHorizon(2)
    policy = jump_start(horizon)
    first = policy.act(STATES, policy.initial_memory(STATES))
    horizon.steps.fill_(0)
    # Episodes under way keep what they began with.
    assert not policy.act(STATES, first.memory).policy_index.any()
    memory = first.memory.clone()
    memory[2:] = 0
    assert policy.act(STATES, memory).policy_index.tolist() == [0, 0, 1, 1, 1, 1]


def test_uniform_horizons_have_equal_shares_and_last_an_episode() -> None:
    torch.manual_seed(0)
    drawn = UniformHorizon(4).draw(torch.zeros(50_000))
    shares = torch.bincount(drawn.long(), minlength=5) / 50_000
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.01, rtol=0)
    guided = turns(jump_start(UniformHorizon(4)), 6).int()
    # Once the learner has taken over, the guide does not come back.
    assert (guided.diff(dim=0) <= 0).all()


def test_geometric_horizons_begin_and_go_on_with_their_probabilities() -> None:
    torch.manual_seed(0)
    drawn = GeometricHorizon(0.9, 0.75).draw(torch.zeros(100_000))
    assert (drawn >= 1).float().mean() == pytest.approx(0.9, abs=0.01)
    for step in (1, 2, 5):
        goes_on = (drawn >= step + 1).sum() / (drawn >= step).sum()
        assert goes_on == pytest.approx(0.75, abs=0.015)
    assert GeometricHorizon(1.0, 0.0).draw(torch.zeros(3)).tolist() == [1, 1, 1]
    assert torch.isinf(GeometricHorizon(1.0, 1.0).draw(torch.zeros(3))).all()


def test_evaluation_is_guided_or_by_the_learner_alone() -> None:
    guided = turns(jump_start(FixedHorizon(2)), 4, evaluate=True)
    assert guided.T.tolist() == [[True, True, False, False]] * 6
    policy = jump_start(FixedHorizon(2), guided_evaluation=False)
    memory = policy.initial_memory(STATES)
    action, _ = policy.evaluation_action(STATES, memory)
    assert torch.equal(action, policy.policies.learner.mode(STATES))
