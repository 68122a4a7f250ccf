"""What holds for PEX holds with every setting of its choice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import batches
from pex_lightning.updates.compilation.compiler import has_compiler

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"choice": "greedy"},
    "epsilon greedy": {"choice": "epsilon_greedy", "choice_epsilon": 0.2},
    "uniform": {"choice": "uniform"},
    "blend": {"choice_values": "blend", "blend_steps": 20, "blend_actor": True},
    "larger": {"choice_values": "larger", "critic_start": "fresh"},
    "upper": {"value_bound": "upper", "bound_width": 2.0},
    "lower": {"value_bound": "lower", "num_q": 2},
    "RPEX": {"rpex_scale": 0.1},
    "scheduled": {"inv_temperature_end": 9.0, "inv_temperature_steps": 20},
    "adapted": {"target_entropy": 0.5, "admission_steps": 10},
    "choice in the backup": {"backup": "choice"},
    "all that learns": {"target_entropy": 0.3, "train_offline_policy": True},
}
EACH = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
STATES = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))


@EACH
def test_each_term_sends_gradient_to_its_own_group_alone(settings: Any, toy: Any) -> None:
    module = toy.algorithm("PEX", **settings)
    module.attach(toy.description())
    module.follow(5)
    (batch,) = batches(toy.chunk())
    groups = {key: {id(p) for p in found} for key, found in module.groups().items()}
    assert list(module.losses(batch).terms) == list(groups)
    trainable = {id(p) for p in module.parameters() if p.requires_grad}
    assert set.union(*groups.values()) == trainable
    for term, own in groups.items():
        module.zero_grad()
        module.losses(batch).terms[term].backward()
        for key, parameter in module.named_parameters():
            learns = id(parameter) in own
            assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, key


@EACH
def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    settings: Any, toy: Any
) -> None:
    checkpoint = RunCheckpoint(toy.folder, 20, Evaluation(1, 10**6, seed=0, num_envs=1))
    module = toy.algorithm("PEX", **settings)
    toy.fit(module, 20, callbacks=[checkpoint])
    path = toy.folder / "last.ckpt"
    loaded = load_algorithm(read_checkpoint(path))
    state = module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    for policy in (module.acting_policy(), loaded.acting_policy()):
        torch.manual_seed(5)
        choice = policy.act(STATES, policy.initial_memory(STATES))
        torch.testing.assert_close(choice.choice_probs.sum(-1), torch.ones(50))
    toy.offline_path = None
    resumed = toy.algorithm("PEX", **settings)
    trainer = toy.fit(resumed, 30, resume=path)
    assert trainer.global_step == 30
    assert all(bool(torch.isfinite(value).all()) for value in resumed.state_dict().values())


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")
@pytest.mark.slow
@pytest.mark.long
@EACH
def test_a_compiled_run_is_the_plain_run_up_to_rounding(
    settings: Any, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(toy.folder))
    ended = []
    for compiles in (False, True):
        module = toy.algorithm("PEX", compile_update=compiles, **settings)
        toy.fit(module, 15)
        ended.append(module.state_dict())
    for key, value in ended[0].items():
        torch.testing.assert_close(value, ended[1][key], atol=1e-4, rtol=1e-3)


def test_the_offline_critic_is_kept_as_it_was(toy: Any) -> None:
    module = toy.algorithm("PEX", choice_values="blend", blend_steps=40, critic_start="v")
    offline = read_checkpoint(toy.offline_path).part("q")
    toy.fit(module, 10)
    assert module.offline_q is not None
    kept = module.offline_q.net.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in offline.items())
    assert float(module.blend_weight.value) == 0.25
    assert not torch.equal(module.critic.q_net.weights[0], offline["weights.0"])


def test_an_adapted_temperature_learns_towards_its_target(toy: Any) -> None:
    module: PEX = toy.algorithm("PEX", target_entropy=0.9, learning_rate=0.05)
    toy.fit(module, 1)
    start = float(module.temperature.value)
    toy.fit(module, 60)
    # Values of a toy differ little: the choice is nearly even, α has to grow from 3.
    assert float(module.temperature.value) > start


def test_the_backup_by_choice_is_the_composite_policys_value(toy: Any) -> None:
    module = toy.algorithm("PEX", backup="choice", choice="greedy")
    module.attach(toy.description())
    with torch.no_grad():
        module.policies.learner.log_std.fill_(-5.0)
    (batch,) = batches(toy.chunk())
    critic, following = module.critic, batch.next_observation
    with torch.no_grad():
        modes = module.policies.modes(following)
        best = module.composite.values(following, modes).argmax(0)
        action = modes[best, torch.arange(len(best))]
        next_value = critic.target_q(following, action).amin(0)
        y = batch.reward + 0.99 * (~batch.terminated).float() * next_value
        q = critic.q(batch.observation, batch.action)
        expected = 0.5 * (q - y).square().mean(-1).sum()
    assert module.losses(batch).terms["q"].item() == pytest.approx(expected.item(), rel=2e-2)


def test_an_actor_of_both_critics_needs_a_blend(toy: Any) -> None:
    with pytest.raises(UserError, match=r"--model\.blend_actor needs --model\.choice_values blend"):
        toy.algorithm("PEX", blend_actor=True)
