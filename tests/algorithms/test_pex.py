from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.policies.acting import Choice
from pex_lightning.updates.batch import batches


def attached(toy: Any, **settings: Any) -> PEX:
    module = toy.algorithm("PEX", **settings)
    module.attach(toy.description())
    return module


def act(module: PEX, states: torch.Tensor) -> Choice:
    policy = module.acting_policy()
    return policy.act(states, policy.initial_memory(states))


def evaluated(module: PEX, states: torch.Tensor) -> torch.Tensor:
    policy = module.acting_policy()
    action, _ = policy.evaluation_action(states, policy.initial_memory(states))
    return action


def test_hand_over_takes_the_critic_whole_and_the_policy_as_frozen(toy: Any) -> None:
    module = toy.algorithm("PEX")
    seen: dict[str, torch.Tensor] = {}

    class Start(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.update({k: v.clone() for k, v in pl_module.state_dict().items()})

    toy.fit(module, 5, callbacks=[Start()])
    offline = torch.load(toy.offline_path, weights_only=True)["state_dict"]
    critic = [key for key in offline if key.startswith("critic.")]
    policy = [key.removeprefix("policy.") for key in offline if key.startswith("policy.")]
    assert len(critic) == 18
    assert policy
    assert all(torch.equal(seen[key], offline[key]) for key in critic)
    # The target is the offline stage's own, not a copy of its Q.
    assert not torch.equal(seen["critic.target_q_net.weights.0"], offline["critic.q_net.weights.0"])
    for key in policy:
        assert torch.equal(seen[f"policies.frozen.0.{key}"], offline[f"policy.{key}"])
    fresh = [key for key in policy if key.startswith("net.")]
    for key in fresh:
        assert not torch.equal(seen[f"policies.learner.{key}"], offline[f"policy.{key}"])


def test_the_offline_policys_bytes_do_not_change_online(toy: Any) -> None:
    module = toy.algorithm("PEX", learning_rate=0.01)
    toy.fit(module, 30, data=toy.online_data(start_steps=20))
    offline = torch.load(toy.offline_path, weights_only=True)["state_dict"]
    after = module.policies.frozen[0].state_dict()
    for key, value in after.items():
        before = offline[f"policy.{key}"]
        assert value.numpy().tobytes() == before.numpy().tobytes(), key
    learner = module.policies.learner.state_dict()
    assert not torch.equal(learner["log_std"], torch.zeros(2))


def test_every_online_row_says_who_acted(toy: Any) -> None:
    data = toy.online_data()
    toy.fit(toy.algorithm("PEX", inv_temperature=0.5), 100, data=data)
    rows = data._online[:]
    assert data.online_rows == 110
    probs = rows["choice_probs"]
    torch.testing.assert_close(probs.sum(-1), torch.ones(110))
    assert set(rows["policy_index"].tolist()) == {0, 1}
    # The frozen policy proposes its mode: the rows that it acted in hold exactly that.
    frozen = read_checkpoint(toy.offline_path).part("policy")
    module = attached(toy)
    module.policies.frozen[0].load_state_dict(frozen)
    mode = module.policies.frozen[0].mode(rows["observation"])
    his = rows["policy_index"] == 0
    torch.testing.assert_close(rows["action"][his], mode[his])
    assert not torch.isclose(rows["action"][~his], mode[~his]).all(-1).any()
    expected = probs[:, 0].sum()
    deviation = (probs[:, 0] * probs[:, 1]).sum().sqrt()
    assert abs(his.sum() - expected) < 4 * deviation


def test_the_learner_imitates_what_the_composite_would_do_now(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = attached(toy, beta=2.0)
    (batch,) = batches(toy.chunk())
    torch.manual_seed(3)
    choice = act(module, batch.observation)
    torch.manual_seed(3)
    losses = module.losses(batch)
    target = module.critic.target_q(batch.observation, choice.action).amin(0)
    advantage = (target - module.critic.v(batch.observation)).detach()
    log_prob = module.policies.learner.log_prob(batch.observation, choice.action)
    expected = ((2.0 * advantage).exp().clamp(max=100) * -log_prob).mean()
    torch.testing.assert_close(losses.terms["actor"], expected)
    # Q and V learn from the batch's own actions.
    own = module.critic.target_q(batch.observation, batch.action).amin(0)
    own_advantage = own - module.critic.v(batch.observation)
    torch.testing.assert_close(losses.diagnostics["advantage"], own_advantage.mean())


def test_the_target_critic_judges_and_the_online_critic_chooses(toy: Any) -> None:
    module = attached(toy, inv_temperature=10.0, beta=0.1)
    (batch,) = batches(toy.chunk(size=64))

    def outcome() -> tuple[torch.Tensor, float]:
        torch.manual_seed(3)
        action = act(module, batch.observation).action
        torch.manual_seed(3)
        return action, float(module.losses(batch).terms["actor"])

    action, loss = outcome()
    with torch.no_grad():
        for parameter in module.critic.target_q_net.parameters():
            parameter.mul_(2.0)
    same_action, other_loss = outcome()
    assert torch.equal(action, same_action)
    assert loss != other_loss
    with torch.no_grad():
        for parameter in module.critic.q_net.parameters():
            parameter.normal_()
    other_action, _ = outcome()
    assert not torch.equal(action, other_action)


def test_pex_without_an_offline_stage_is_refused(toy: Any) -> None:
    toy.offline_path = None
    with pytest.raises(UserError, match=r"--offline\.ckpt_path"):
        toy.fit(toy.algorithm("PEX"), 5)


def test_resuming_needs_the_online_checkpoint_only(toy: Any) -> None:
    evaluation = Evaluation(episodes=1, every=1000, seed=0, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 5, evaluation)
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[checkpoint])
    frozen = read_checkpoint(checkpoint.last).under("policies.frozen.")
    toy.offline_path = None
    module = toy.algorithm("PEX")
    toy.fit(module, 20, resume=checkpoint.last)
    after = module.policies.frozen.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in frozen.items())


def test_hand_over_to_another_environment_is_refused_when_it_is_built(toy: Any) -> None:
    module = toy.algorithm("PEX")
    with pytest.raises(UserError, match="observation size: 3 in the checkpoint, 4 in this run"):
        module.attach(toy.description(obs_dim=4))


class Admission(Callback):
    """Notes λ before training and after every chunk."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen[trainer.global_step] = float(pl_module.admission.share)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.seen[trainer.global_step] = float(pl_module.admission.share)


def test_the_learner_is_admitted_linearly_and_checkpoints_say_how_far(toy: Any) -> None:
    watch = Admission()
    data = toy.online_data(chunk_size=4)
    trainer = toy.fit(toy.algorithm("PEX", admission_steps=40), 10, data=data, callbacks=[watch])
    assert watch.seen == pytest.approx({0: 0.0, 4: 0.1, 8: 0.2, 10: 0.25})
    path = toy.folder / "online.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = read_checkpoint(path)
    assert float(checkpoint.state_dict["admission.share"]) == 0.25
    assert float(load_algorithm(checkpoint).admission.share) == 0.25


def test_admission_goes_on_after_a_resume_and_ends_at_one(toy: Any) -> None:
    evaluation = Evaluation(episodes=1, every=1000, seed=0, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 10, evaluation)
    toy.fit(toy.algorithm("PEX", admission_steps=20), 10, callbacks=[checkpoint])
    watch, module = Admission(), toy.algorithm("PEX", admission_steps=20)
    toy.fit(module, 30, resume=checkpoint.last, callbacks=[watch])
    assert watch.seen == pytest.approx({10: 0.5, 15: 0.75, 20: 1.0, 25: 1.0, 30: 1.0})


def test_without_admission_steps_the_choice_is_the_papers_from_the_start(toy: Any) -> None:
    watch = Admission()
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[watch])
    assert watch.seen == {0: 1.0, 5: 1.0, 10: 1.0}


def test_at_the_hand_over_the_composite_policy_is_the_offline_policy(toy: Any) -> None:
    states = torch.randn(300, 3)
    for admission_steps, is_offline in ((1000, True), (0, False)):
        module = attached(toy, admission_steps=admission_steps, inv_temperature=0.5)
        mode = module.policies.frozen[0].mode(states)
        choice = act(module, states)
        assert torch.equal(choice.action, mode) == is_offline
        assert (choice.policy_index == 0).all() == is_offline
        assert torch.equal(evaluated(module, states), mode) == is_offline


def test_rows_collected_before_the_first_update_are_the_offline_policys(toy: Any) -> None:
    data = toy.online_data(start_steps=60, chunk_size=1)
    toy.fit(toy.algorithm("PEX", admission_steps=50, inv_temperature=0.5), 50, data=data)
    rows = data._online[:]
    # The first chunk needs the step of its own update as well.
    assert rows["choice_probs"][:61].tolist() == [[1.0, 0.0]] * 61
    assert rows["policy_index"][:61].tolist() == [0] * 61
    torch.testing.assert_close(rows["choice_probs"].sum(-1), torch.ones(110))
    # With λ each frozen choice is only as likely as the paper's allows: P(θ|s) ≤ λ.
    admission = torch.arange(1, 50) / 50
    assert (rows["choice_probs"][61:, 1] > 0).all()
    assert (rows["choice_probs"][61:, 1] <= admission + 1e-6).all()
    assert 1 in rows["policy_index"][61:]


class Moments(Callback):
    """Adam's state by group, before the first update."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        (optimizer,) = trainer.optimizers
        self.groups = {
            group["name"]: [
                {key: value.clone() for key, value in optimizer.state.get(p, {}).items()}
                for p in group["params"]
            ]
            for group in optimizer.param_groups
        }


def test_the_critic_goes_on_with_its_moments_and_the_actor_starts_afresh(toy: Any) -> None:
    moments = Moments()
    toy.fit(toy.algorithm("PEX"), 5, callbacks=[moments])
    (saved,) = torch.load(toy.offline_path, weights_only=True)["optimizer_states"]
    for group in saved["param_groups"]:
        found = moments.groups[group["name"]]
        assert len(found) == len(group["params"]) > 0
        if group["name"] == "actor":
            assert found == [{}] * len(found)
            continue
        for state, index in zip(found, group["params"], strict=True):
            expected = saved["state"][index]
            assert set(state) == set(expected) == {"exp_avg", "exp_avg_sq", "step"}
            assert int(state["step"]) == 20
            assert state["exp_avg_sq"].any()
            assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_copy_of_the_offline_policy_goes_on_with_its_moments(toy: Any) -> None:
    moments = Moments()
    toy.fit(toy.algorithm("PEX", learner_start="copy"), 5, callbacks=[moments])
    (saved,) = torch.load(toy.offline_path, weights_only=True)["optimizer_states"]
    (group,) = (group for group in saved["param_groups"] if group["name"] == "actor")
    for state, index in zip(moments.groups["actor"], group["params"], strict=True):
        expected = saved["state"][index]
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_training_leaves_the_offline_checkpoints_moments_alone(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    module = PEX(hidden_dims=[8, 8])
    module.hand_over(checkpoint)
    toy.fit(module, 5)
    (saved,) = torch.load(toy.offline_path, weights_only=True)["optimizer_states"]
    for index, state in saved["state"].items():
        for key, value in state.items():
            assert torch.equal(checkpoint.optimizer["state"][index][key], value), key


def test_a_resumed_run_has_its_own_moments(toy: Any) -> None:
    evaluation = Evaluation(episodes=1, every=1000, seed=0, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 10, evaluation)
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[checkpoint])
    moments = Moments()
    toy.fit(toy.algorithm("PEX"), 15, resume=checkpoint.last, callbacks=[moments])
    steps = {name: {int(s["step"]) for s in group} for name, group in moments.groups.items()}
    assert steps == {"q": {30}, "v": {30}, "actor": {10}}


@pytest.mark.parametrize(
    ("key", "value"),
    [("inv_temperature", -1.0), ("eval_epsilon", 1.5), ("admission_steps", -1)],
)
def test_its_own_settings_are_checked(key: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"--model\.{key} is "):
        PEX(**{key: value})
