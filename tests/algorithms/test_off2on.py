"""What Off2On learns, and what it starts from."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.algorithms.off2on import Off2On
from pex_lightning.algorithms.stacking import as_ensemble
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.updates.batch import Batch, batches

STATES = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
ACTIONS = torch.rand(20, 2, generator=torch.Generator().manual_seed(1))


def saved(toy: Any, name: str, seed: int, updates: int = 10, **settings: Any) -> Checkpoint:
    module = ALGORITHMS[name](hidden_dims=[8, 8], **settings)
    trainer = toy.fit(module, updates, data=toy.offline_data(), seed=seed)
    path = Path(toy.folder) / f"{name}-{seed}.ckpt"
    trainer.save_checkpoint(path)
    return read_checkpoint(path)


def off2on(toy: Any, *given: Checkpoint, size: int = 3, **settings: Any) -> Off2On:
    module = Off2On(hidden_dims=[8, 8], ensemble_size=size, **settings)
    if given:
        module.hand_over(*given)
    module.attach(toy.description())
    return module


def one_batch(toy: Any) -> Batch:
    (batch,) = batches(toy.chunk())
    return batch


def test_the_losses_by_hand(toy: Any) -> None:
    module, batch = off2on(toy, entropy_weight=0.5), one_batch(toy)
    torch.manual_seed(5)
    losses = module.losses(batch)
    torch.manual_seed(5)
    next_action, next_log_prob = module.policy.rsample(batch.next_observation)
    inputs = torch.cat((batch.next_observation, next_action), -1)
    targets = module.critic.target_q_net(inputs).squeeze(-1)
    now = module.critic.q_net(torch.cat((batch.observation, batch.action), -1)).squeeze(-1)
    expected = torch.zeros(())
    for agent in range(3):
        # Agent i has the Q-functions i and 3 + i, and backs up the lesser of its own targets.
        value = torch.minimum(targets[agent], targets[3 + agent]) - 0.5 * next_log_prob
        target = batch.reward + 0.99 * value * (~batch.terminated)
        for q in (now[agent], now[3 + agent]):
            expected = expected + 0.5 * (q - target.detach()).square().mean()
    torch.testing.assert_close(losses.terms["q"], expected)
    action, log_prob = module.policy.rsample(batch.observation)
    q = module.critic.q_net(torch.cat((batch.observation, action), -1)).squeeze(-1)
    value = torch.stack([torch.minimum(q[i], q[3 + i]) for i in range(3)]).mean(0)
    torch.testing.assert_close(losses.terms["actor"], (0.5 * log_prob - value).mean())
    # H is -1 for each dimension, in units of half-widths 1 and 1.25.
    target_entropy = -2.0 + torch.tensor([1.0, 1.25]).log().sum()
    gap = -log_prob.mean() - target_entropy
    torch.testing.assert_close(losses.terms["temperature"], 0.5 * gap)


def test_each_agents_target_reaches_its_own_q_functions_alone(toy: Any) -> None:
    module, batch = off2on(toy), one_batch(toy)

    def gradients() -> torch.Tensor:
        torch.manual_seed(5)
        module.zero_grad()
        module.losses(batch).terms["q"].backward()
        found = module.critic.q_net.weights[0].grad
        assert found is not None
        return found.clone()

    before = gradients()
    with torch.no_grad():
        for number in (1, 4):
            module.critic.target_q_net.biases[-1][number] += 1.0
    changed = (gradients() - before).flatten(1).abs().sum(-1) > 1e-6
    assert changed.tolist() == [False, True, False, False, True, False]


def test_all_members_learn_through_the_one_policy(toy: Any) -> None:
    module, batch = off2on(toy), one_batch(toy)
    module.losses(batch).terms["actor"].backward()
    gradient = module.policy.net.weights[-1].grad
    assert gradient is not None
    assert (gradient.flatten(1).abs().sum(-1) > 0).all()
    assert all(p.grad is None or not p.grad.any() for p in module.critic.parameters())


def test_it_starts_as_its_ensemble(toy: Any) -> None:
    offline = saved(toy, "IQLEnsemble", 0, ensemble_size=3)
    module = off2on(toy, offline)
    before = ALGORITHMS["IQLEnsemble"](**offline.hyper_parameters)
    before.attach(offline.header.data)
    before.load_state_dict(dict(offline.state_dict))
    for method in ("q", "target_q"):
        ours = getattr(module.critic, method)(STATES, ACTIONS)
        torch.testing.assert_close(ours, getattr(before.critic, method)(STATES, ACTIONS))
    torch.testing.assert_close(module.policy.moments(STATES), before.policy.moments(STATES))


def test_it_starts_as_the_single_agents_that_it_is_given(toy: Any) -> None:
    given = [saved(toy, "IQL", seed, num_q=2) for seed in range(3)]
    module = off2on(toy, *given)
    for number, checkpoint in enumerate(given):
        agent = ALGORITHMS["IQL"](**checkpoint.hyper_parameters)
        agent.attach(checkpoint.header.data)
        agent.load_state_dict(dict(checkpoint.state_dict))
        for method in ("q", "target_q"):
            ours = getattr(module.critic, method)(STATES, ACTIONS)[:, number]
            torch.testing.assert_close(ours, getattr(agent.critic, method)(STATES, ACTIONS))
        ours = module.policy.member_modes(STATES)[number]
        torch.testing.assert_close(ours, agent.policy.mode(STATES))
        ours = module.policy.member_log_probs(STATES, ACTIONS)[number]
        torch.testing.assert_close(ours, agent.policy.log_prob(STATES, ACTIONS))


def test_agents_with_layer_norm_are_stacked_too(toy: Any) -> None:
    given = [saved(toy, "IQL", seed, layer_norm=True) for seed in range(2)]
    module = off2on(toy, *given, size=2, layer_norm=True)
    agent = ALGORITHMS["IQL"](**given[1].hyper_parameters)
    agent.attach(given[1].header.data)
    agent.load_state_dict(dict(given[1].state_dict))
    ours = module.critic.q(STATES, ACTIONS)[:, 1]
    torch.testing.assert_close(ours, agent.critic.q(STATES, ACTIONS))


@pytest.mark.parametrize("single", [True, False])
def test_q_goes_on_with_the_moments_of_its_adam(single: bool, toy: Any) -> None:
    if single:
        given = [saved(toy, "IQL", seed) for seed in range(3)]
    else:
        given = [saved(toy, "IQLEnsemble", 0, ensemble_size=3)]
    module = off2on(toy, *given)
    optimizer = module.configure_optimizers()
    first = module.critic.q_net.weights[0]
    moments = optimizer.state[first]["exp_avg"]
    assert int(optimizer.state[first]["step"]) == 10
    if single:
        theirs = given[1].optimizer["state"][0]["exp_avg"]
        torch.testing.assert_close(moments[[1, 4]], theirs)
    else:
        torch.testing.assert_close(moments, given[0].optimizer["state"][0]["exp_avg"])
    assert not optimizer.state[module.policy.log_std]


def test_agents_without_their_adam_start_afresh(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    given = [saved(toy, "IQL", seed) for seed in range(3)]
    given[1] = dataclasses.replace(given[1], optimizer={})
    optimizer = off2on(toy, *given).configure_optimizers()
    assert not optimizer.state
    assert "Adam starts afresh" in caplog.text


def test_another_number_of_agents_is_refused(toy: Any) -> None:
    agents = [saved(toy, "IQL", seed) for seed in range(3)]
    ensemble = saved(toy, "IQLEnsemble", 0, ensemble_size=3)
    for given in (agents[:1], agents[:2], [agents[0], ensemble], [ensemble, ensemble]):
        with pytest.raises(UserError, match=r"--model\.ensemble_size is 3, which needs one"):
            as_ensemble(given, 3)
    with pytest.raises(UserError, match=r"given more than once"):
        as_ensemble([agents[0], agents[1], agents[0]], 3)
    with pytest.raises(UserError, match=r"--model\.ensemble_size is 5, which needs one"):
        off2on(toy, ensemble, size=5)


def test_an_ensemble_is_not_handed_over_to_a_method_for_one_agent(toy: Any) -> None:
    ensemble = saved(toy, "IQLEnsemble", 0, ensemble_size=3)
    module = ALGORITHMS["Direct"](hidden_dims=[8, 8])
    module.hand_over(ensemble)
    with pytest.raises(UserError, match=r"model\.ensemble_size: 3 in the checkpoint, None in this"):
        module.attach(toy.description())


def test_agents_with_squashed_policies_are_refused(toy: Any) -> None:
    given = [saved(toy, "IQL", seed, policy_distribution="squashed_gaussian") for seed in range(2)]
    with pytest.raises(UserError, match=r"IQL-0\.ckpt has a policy that is not gaussian"):
        off2on(toy, *given, size=2)


@pytest.mark.parametrize("part", ["policy.net.layers.0.bias", "critic.q_net.weights.0"])
@pytest.mark.parametrize("damage", ["lost", "size"])
def test_damaged_agents_are_told(part: str, damage: str, toy: Any) -> None:
    given = [saved(toy, "IQL", seed) for seed in range(3)]
    state = dict(copy.copy(given[1].state_dict))
    value = state.pop(part)
    if damage == "size":
        state[part] = value[..., :1]
    given[1] = dataclasses.replace(given[1], state_dict=state)
    with pytest.raises(UserError, match=r"IQL-0.*cannot be joined to an ensemble"):
        off2on(toy, *given)
