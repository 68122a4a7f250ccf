"""SAC, RLPD, WSRL and Cal-QL: their own mathematics; what holds for all is in test_contract."""

import itertools
from typing import Any

import pytest
import torch

from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import batches


def quiet(module: Any) -> None:
    """Give the policy a negligible deviation, so that its samples are its mode."""
    last = module.policy.net.layers[-1]
    with torch.no_grad():
        last.bias[2:] = -30.0
        last.weight[2:] = 0.0


def attached(toy: Any, name: str, **settings: Any) -> tuple[Any, Any]:
    module = toy.algorithm(name, **settings)
    module.attach(toy.description())
    quiet(module)
    (batch,) = batches(toy.chunk())
    return module, batch


@pytest.mark.parametrize("entropy", [True, False])
def test_an_update_of_rlpd_by_hand(entropy: bool, toy: Any) -> None:
    settings = {"num_q": 3, "min_q_of": 3, "entropy_in_backup": entropy, "entropy_weight": 0.25}
    module, batch = attached(toy, "RLPD", **settings)
    losses = module.losses(batch)
    critic, policy = module.critic, module.policy
    with torch.no_grad():
        action, log_prob = policy.rsample(batch.next_observation)
        value = critic.target_q(batch.next_observation, action).amin(0)
        # Deviations are at their floor, e^-20, so that densities differ by the noise alone.
        value = value - 0.25 * log_prob if entropy else value
        y = torch.where(batch.terminated, batch.reward, batch.reward + module.gamma * value)
        q = critic.q(batch.observation, batch.action)
        expected = 0.5 * (q - y).square().mean(-1).sum()
        own = critic.q(batch.observation, policy.mode(batch.observation)).mean(0)
        _, log_prob = policy.rsample(batch.observation)
    assert losses.terms["q"].item() == pytest.approx(expected.item(), rel=0.1 if entropy else 1e-4)
    actor = (0.25 * log_prob - own).mean().item()
    assert losses.terms["actor"].item() == pytest.approx(actor, rel=0.1)
    # The toy's actions are 2 and 2.5 wide: the target is -1/2 for each, in units of half of it.
    target = -1.0 + torch.tensor([1.0, 1.25]).log().sum().item()
    assert module.target_nats == pytest.approx(target)
    entropy_now = -log_prob.mean().item()
    expected = 0.25 * (entropy_now - target)
    assert losses.terms["temperature"].item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("value", ["mean", "min"])
def test_the_policy_climbs_the_mean_or_the_least_of_q(value: str, toy: Any) -> None:
    module, batch = attached(toy, "RLPD", actor_value=value, entropy_weight=1e-9)
    q = module.critic.q(batch.observation, module.policy.mode(batch.observation))
    expected = -(q.mean(0) if value == "mean" else q.amin(0)).mean().item()
    assert module.losses(batch).terms["actor"].item() == pytest.approx(expected, rel=1e-4)


def test_the_actor_learns_in_every_third_update(toy: Any) -> None:
    module = toy.algorithm("RLPD", actor_every=3)
    seen: list[torch.Tensor] = []
    weight: list[torch.Tensor] = []

    def look(trainer: Any, pl_module: Any) -> None:
        seen.append(pl_module.policy.net.layers[0].weight.detach().clone())
        weight.append(pl_module.critic.q_net.weights[0].detach().clone())

    toy.fit(module, 7, data=toy.online_data(chunk_size=1), callbacks=[toy.Boundary(1, look)])
    changes = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    # Updates 2 to 7; the third and the sixth are the actor's.
    assert changes == [False, True, False, False, True, False]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(weight))
    (optimizer,) = module.trainer.optimizers
    counts = {
        group["name"]: int(optimizer.state[group["params"][0]]["step"])
        for group in optimizer.param_groups
    }
    assert counts == {"q": 7, "actor": 2, "temperature": 2}


def test_a_resumed_run_keeps_the_actors_turns(toy: Any) -> None:
    path = toy.folder / "a.ckpt"
    trainer = toy.fit(toy.algorithm("IQL", actor_every=4), 6)
    trainer.save_checkpoint(path)
    resumed = toy.algorithm("IQL", actor_every=4)
    toy.fit(resumed, 12, resume=path)
    (optimizer,) = resumed.trainer.optimizers
    actor = next(group for group in optimizer.param_groups if group["name"] == "actor")
    assert int(optimizer.state[actor["params"][0]]["step"]) == 3


def test_an_update_of_calql_by_hand(toy: Any) -> None:
    module, batch = attached(toy, "CalQL", cql_alpha=0.0)
    critic = module.critic
    losses = module.losses(batch)
    with torch.no_grad():
        next_action = module.policy.mode(batch.next_observation)
        value = critic.target_q(batch.next_observation, next_action).amin(0)
        y = torch.where(batch.terminated, batch.reward, batch.reward + module.gamma * value)
        q = critic.q(batch.observation, batch.action)
        v_next = module.gamma * critic.v(batch.next_observation)
        v_target = torch.where(batch.terminated, batch.reward, batch.reward + v_next)
        v_loss = 0.5 * (v_target - critic.v(batch.observation)).square().mean()
    expected = 0.5 * (q - y).square().mean(-1).sum().item()
    assert losses.terms["q"].item() == pytest.approx(expected, rel=1e-4)
    assert losses.terms["v"].item() == pytest.approx(v_loss.item(), rel=1e-4)
    torch.manual_seed(0)
    plain = module.losses(batch).terms["q"]
    module.cql_alpha = 3.0
    torch.manual_seed(0)
    weighed = module.losses(batch)
    regulariser = weighed.diagnostics["cql_regulariser"]
    assert (weighed.terms["q"] - plain).item() == pytest.approx(1.5 * regulariser.item(), rel=1e-3)


def test_the_best_of_several_next_actions_makes_the_target(toy: Any) -> None:
    module = toy.algorithm("CalQL", target_actions=50)
    module.attach(toy.description())
    (batch,) = batches(toy.chunk())
    alpha = module.alpha()
    with torch.no_grad():
        best = module._next_value(batch.next_observation, alpha)
        module.target_actions = 1
        one = torch.stack([module._next_value(batch.next_observation, alpha) for _ in range(50)])
    assert (best > one.mean(0)).all()
    torch.testing.assert_close(best, one.amax(0), atol=0.1, rtol=0)


def test_the_online_stage_goes_on_with_everything(toy: Any) -> None:
    module = toy.algorithm("OnlineCalQL")
    module.attach(toy.description())
    offline = read_checkpoint(toy.before("OnlineCalQL"))
    state = module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in offline.state_dict.items())
    assert not torch.equal(state["alpha.log_value"], torch.zeros(()))


def test_wsrl_takes_the_weight_of_the_entropy_where_there_is_one(toy: Any) -> None:
    module = toy.algorithm("WSRL")
    module.attach(toy.description())
    offline = read_checkpoint(toy.before("WSRL"))
    assert torch.equal(module.alpha.log_value, offline.part("temperature")["log_value"])
    toy.before = lambda name: toy.offline_path
    settings = {"num_q": 2, "layer_norm": False, "policy_distribution": "gaussian"}
    module = toy.algorithm("WSRL", entropy_weight=0.5, **settings)
    module.attach(toy.description())
    assert module.alpha().item() == pytest.approx(0.5)
    toy.fit(module, 5)


def test_another_kind_of_policy_is_refused(toy: Any) -> None:
    toy.before = lambda name: toy.offline_path
    module = toy.algorithm("WSRL", num_q=2, layer_norm=False)
    with pytest.raises(UserError, match="policy_distribution: gaussian in the checkpoint"):
        module.attach(toy.description())


def test_another_critic_is_refused(toy: Any) -> None:
    module = toy.algorithm("OnlineCalQL", layer_norm=True)
    with pytest.raises(UserError, match="layer_norm: False in the checkpoint, True in this run"):
        module.attach(toy.description())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("RLPD", "min_q_of", 11),
        ("RLPD", "min_q_of", 0),
        ("RLPD", "actor_every", 0),
        ("RLPD", "actor_value", "max"),
        ("RLPD", "entropy_weight", 0.0),
        ("RLPD", "policy_distribution", "beta"),
        ("CalQL", "cql_alpha", -1.0),
        ("CalQL", "cql_actions", 0),
        ("CalQL", "target_actions", 0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, key: str, value: Any, toy: Any) -> None:
    with pytest.raises(UserError, match=rf"--model\.{key} is {value}"):
        toy.algorithm(name, **{key: value})
