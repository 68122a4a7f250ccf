"""AWAC: its targets by hand, and what the online stage takes over."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import batches


def test_losses_are_those_of_the_paper_on_a_policy_without_noise(toy: Any) -> None:
    module = toy.algorithm("AWAC", temperature=0.5, gamma=0.9)
    module.attach(toy.description())
    with torch.no_grad():
        module.policy.log_std.fill_(-5.0)
        for parameter in module.critic.target_q_net.parameters():
            parameter.mul_(1.5)
    (batch,) = batches(toy.chunk())
    losses = module.losses(batch)
    critic, policy = module.critic, module.policy
    with torch.no_grad():
        next_action = policy.mode(batch.next_observation)
        next_q = critic.target_q(batch.next_observation, next_action).amin(0)
        y = batch.reward + 0.9 * (~batch.terminated).float() * next_q
        q = critic.q(batch.observation, batch.action)
        expected = 0.5 * ((q[0] - y).square().mean() + (q[1] - y).square().mean())
        advantage = q.amin(0) - critic.q(batch.observation, policy.mode(batch.observation)).amin(0)
        weight = torch.exp(advantage / 0.5).clamp(max=100)
        log_prob = policy.log_prob(batch.observation, batch.action)
    # The policy's standard deviation is e^-5 = 0.007: its samples are its mode, nearly.
    assert losses.terms["q"].item() == pytest.approx(expected.item(), rel=2e-2)
    assert losses.terms["actor"].item() == pytest.approx(
        -(weight * log_prob).mean().item(), rel=2e-2
    )


def test_the_online_stage_goes_on_where_the_offline_one_ended(toy: Any) -> None:
    module = toy.algorithm("OnlineAWAC")
    module.attach(toy.description())
    offline = read_checkpoint(toy.before("OnlineAWAC"))
    assert "v" not in offline.header.parts
    state = module.state_dict()
    assert state.keys() == offline.state_dict.keys()
    assert all(torch.equal(state[key], value) for key, value in offline.state_dict.items())


def test_an_iql_stage_has_what_awac_needs_and_awac_lacks_what_pex_needs(toy: Any) -> None:
    iql, awac = toy.offline_path, toy.before("OnlineAWAC")
    toy.before = lambda method: awac
    with pytest.raises(UserError, match="AWAC without v, which this run takes over"):
        toy.algorithm("PEX").attach(toy.description())
    toy.before = lambda method: iql
    toy.algorithm("OnlineAWAC").attach(toy.description())


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.0), ("weighting", "linear")])
def test_settings_out_of_range_are_refused(key: str, value: Any, toy: Any) -> None:
    with pytest.raises(UserError, match=rf"--model\.{key} is {value}"):
        toy.algorithm("AWAC", **{key: value})
