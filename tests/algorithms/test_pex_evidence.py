from typing import Any

import pytest
import torch

from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.losses.iql import policy_loss
from pex_lightning.policies.acting import Episode
from pex_lightning.updates.batch import Batch, batches


def attached(toy: Any, **settings: Any) -> PEX:
    module: PEX = toy.algorithm("PEX", inv_temperature=0.5, **settings)
    module.attach(toy.description())
    return module


def test_an_episode_is_the_frozen_members_or_the_full_sets_to_its_end(toy: Any) -> None:
    module = attached(toy, admission="evidence")
    module.follow(1)
    module.on_episodes([Episode(0.0, False)])
    policy = module.acting_policy()
    memory = policy.initial_memory(torch.zeros(2_000, 3))
    possible = []
    for _ in range(4):
        choice = policy.act(torch.randn(2_000, 3), memory)
        memory = choice.memory
        possible.append(choice.choice_probs[:, -1] > 0)
        assert not (choice.policy_index[~possible[-1]] == 1).any()
    assert all(torch.equal(step, possible[0]) for step in possible)
    # Four standard errors of a share of one half.
    assert float(possible[0].float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2_000**0.5)


def test_evaluation_and_export_follow_the_evidence(toy: Any) -> None:
    module = attached(toy, admission="evidence", eval_epsilon=0.0)
    policy, states = module.acting_policy(), torch.randn(200, 3)
    memory = policy.initial_memory(states)
    mode = module.policies.frozen[0].mode(states)
    assert torch.equal(policy.evaluation_action(states, memory)[0], mode)
    assert torch.equal(policy.decide(states, memory).action, mode)
    module.on_episodes([Episode(0.0, False), Episode(1.0, True)] * 3)
    assert not torch.equal(policy.evaluation_action(states, memory)[0], mode)
    decided = policy.decide(states, memory)
    assert set(decided.policy_index.tolist()) == {0, 1}
    module.on_episodes([Episode(-9.0, True)] * 10)
    assert torch.equal(policy.decide(states, memory).action, mode)
    assert not policy.decides_by_memory


def test_training_counts_every_episode_once_and_a_checkpoint_has_the_evidence(toy: Any) -> None:
    data = toy.online_data(start_steps=60, env_kwargs={"terminates_after": 7})
    module = toy.algorithm("PEX", admission="evidence", inv_temperature=0.5)
    trainer = toy.fit(module, 60, data=data)
    evidence = module.admission.evidence
    counted = int(evidence.frozen[0]) + int(evidence.full_count)
    assert counted == data.statistics.episodes > 10
    assert int(evidence.frozen[0]) > 0
    assert int(evidence.full_count) > 0
    path = toy.folder / "online.ckpt"
    trainer.save_checkpoint(path)
    loaded = load_algorithm(read_checkpoint(path)).admission.evidence.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in evidence.state_dict().items())


def test_what_the_learner_imitates_is_the_choice_or_the_batch_or_both(toy: Any) -> None:
    (batch,) = batches(toy.chunk())
    terms = {}
    for imitates in ("choice", "batch", "both"):
        torch.manual_seed(0)
        module = attached(toy, imitates=imitates, learner_start="copy")
        terms[imitates] = module.losses(batch).terms["actor"]
    advantage = module.losses(batch)
    with torch.no_grad():
        u = module.critic.min_target_q(batch.observation, batch.action)
        u = u - module.critic.v(batch.observation)
        log_prob = module.policies.learner.log_prob(batch.observation, batch.action)
    assert isinstance(batch, Batch)
    assert advantage.terms.keys() == {"q", "v", "actor"}
    torch.testing.assert_close(terms["batch"], policy_loss(log_prob, u, module.beta).loss)
    torch.testing.assert_close(terms["both"], (terms["choice"] + terms["batch"]) / 2)
    assert not torch.equal(terms["choice"], terms["batch"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"admission": "hope"}, "--model.admission"),
        ({"admission_window": 1}, "--model.admission_window"),
        ({"admission_least": 0.0}, "--model.admission_least"),
        ({"imitates": "nobody"}, "--model.imitates"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str, toy: Any) -> None:
    with pytest.raises(UserError, match=message):
        toy.algorithm("PEX", **settings)
