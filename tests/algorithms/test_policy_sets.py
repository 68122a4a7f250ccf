"""PEX with members that the user names, and with a set that grows."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

import old_policies
from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.updates.batch import batches

STATES = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def old_run(toy: Any) -> Path:
    """A checkpoint of an online run whose policy has other sizes."""
    module = toy.algorithm("OnlineIQL", hidden_dims=[6])
    toy.fit(module, 5)
    path: Path = toy.folder / "old.ckpt"
    module.trainer.save_checkpoint(path)
    return path


def alone(toy: Any, *members: Any, **settings: Any) -> PEX:
    """PEX beside old policies, without an offline stage."""
    settings = {"hidden_dims": [8, 8], "critic_start": "fresh", **settings}
    return PEX(members=members, offline_member=False, **settings)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[key]) for key, value in first.items())


def kept(toy: Any, every: int = 5) -> RunCheckpoint:
    """A callback that keeps a run as `fit` does."""
    return RunCheckpoint(toy.folder / "run", every, Evaluation(1, 1000, 0, num_envs=1))


def saved(module: PEX, path: Path) -> Any:
    module.trainer.save_checkpoint(path)
    return read_checkpoint(path)


def test_members_come_after_the_offline_policy_in_the_order_given(toy: Any, old_run: Path) -> None:
    net = old_policies.write_torchscript(toy.folder / "script.pt")
    module = toy.algorithm(
        "PEX", members=[{"path": str(old_run), "name": "run"}, str(toy.folder / "script.pt")]
    )
    data = toy.online_data()
    toy.fit(module, 30, data=data)
    assert module.policies.names == ("offline", "run", "script", "online")
    states = module.policies.modes(STATES)
    policy = read_checkpoint(old_run).part("policy")
    own = GaussianPolicy(3, toy.low, toy.high, [6])
    own.load_state_dict(policy)
    assert torch.equal(states[1], own.mode(STATES))
    low, high = torch.tensor(toy.low), torch.tensor(toy.high)
    torch.testing.assert_close(states[2], net(STATES).clamp(low, high).detach())
    # Nothing that was learned went into a member from outside.
    offline = read_checkpoint(toy.offline_path).part("policy")
    for frozen, expected in ((0, offline), (1, policy)):
        for key, value in module.policies.frozen[frozen].state_dict().items():
            assert value.numpy().tobytes() == expected[key].numpy().tobytes(), key
    rows = data._online[:]
    assert rows["choice_probs"].shape == (40, 4)
    torch.testing.assert_close(rows["choice_probs"].sum(-1), torch.ones(40))


def test_a_member_may_be_of_another_distribution(toy: Any) -> None:
    old = toy.algorithm("OnlineIQL", policy_distribution="squashed_gaussian")
    toy.fit(old, 5)
    path = toy.folder / "old.ckpt"
    old.trainer.save_checkpoint(path)
    module = alone(toy, str(path), {"path": str(path), "name": "again"})
    toy.fit(module, 10)
    modes = module.policies.modes(STATES)
    torch.testing.assert_close(modes[0], old.policy.mode(STATES))
    assert torch.equal(modes[0], modes[1])
    loaded = load_algorithm(saved(module, toy.folder / "a.ckpt"))
    assert torch.equal(loaded.policies.modes(STATES), modes)  # type: ignore[union-attr]


def test_an_old_policy_needs_no_offline_stage(toy: Any) -> None:
    toy.offline_path = None
    module = alone(toy, "old_policies:controller", admission_steps=1000)
    assert module.takes == frozenset()
    data = toy.online_data()
    toy.fit(module, 20, data=data)
    rows = data._online[:]
    # π_θ is hardly admitted yet, so that the old policy acts.
    assert (rows["policy_index"] == 0).float().mean() > 0.9
    acted = rows["policy_index"] == 0
    expected = old_policies.controller(rows["observation"].numpy())
    low, high = torch.tensor(toy.low), torch.tensor(toy.high)
    expected = torch.from_numpy(expected).float().clamp(low, high)
    torch.testing.assert_close(rows["action"][acted], expected[acted])


def test_the_critic_alone_can_come_from_the_offline_stage(toy: Any) -> None:
    module = toy.algorithm("PEX", members=["old_policies:controller"], offline_member=False)
    assert module.takes == {"q", "target", "v", "moments"}
    module.attach(toy.description())
    offline = read_checkpoint(toy.offline_path)
    assert same(snapshot(module.critic.q_net), offline.part("q"))
    assert module.policies.names == ("controller", "online")
    toy.fit(module, 10)


def test_rpex_is_refused_beside_members_without_a_density(toy: Any) -> None:
    module = toy.algorithm("PEX", rpex_scale=0.1, members=["old_policies:controller"])
    for start in (module.check_files, module.attach):
        with pytest.raises(UserError, match=r"rpex_scale asks .* density .* and not controller"):
            start(toy.description())


def test_without_any_member_there_is_nothing_to_expand(toy: Any) -> None:
    with pytest.raises(UserError, match="offline_member false leaves nothing beside the policy"):
        alone(toy).attach(toy.description())


def test_several_members_are_admitted_as_one_is(toy: Any) -> None:
    module = alone(
        toy,
        "old_policies:controller",
        {"path": "old_policies:controller", "name": "again"},
        admission_steps=10,
    )
    module.attach(toy.description())
    policy = module.acting_policy()
    choice = policy.act(STATES, policy.initial_memory(STATES))
    assert (choice.choice_probs[:, -1] == 0).all()
    torch.testing.assert_close(choice.choice_probs[:, 0], torch.full((30,), 0.5))
    module.follow(5)
    choice = policy.act(STATES, policy.initial_memory(STATES))
    assert ((choice.choice_probs[:, -1] > 0) & (choice.choice_probs[:, -1] < 0.5)).all()


def test_a_checkpoint_holds_members_that_are_parameters(toy: Any, old_run: Path) -> None:
    toy.offline_path = None
    module, keep = alone(toy, str(old_run)), kept(toy)
    toy.fit(module, 10, callbacks=[keep])
    old_run.unlink()
    loaded = load_algorithm(read_checkpoint(keep.last))
    assert same(snapshot(module), snapshot(loaded))
    assert torch.equal(
        loaded.policies.modes(STATES),
        module.policies.modes(STATES),  # type: ignore[union-attr]
    )
    # So does a resumed run.
    resumed = alone(toy, str(old_run))
    toy.fit(resumed, 15, resume=keep.last)
    assert same(snapshot(module.policies.frozen), snapshot(resumed.policies.frozen))
    assert torch.equal(resumed.policies.modes(STATES)[0], module.policies.modes(STATES)[0])


def test_code_is_not_run_because_a_checkpoint_names_it(toy: Any) -> None:
    toy.offline_path = None
    path = toy.folder / "script.pt"
    old_policies.write_torchscript(path)
    module = alone(toy, str(path), "old_policies:controller")
    toy.fit(module, 10)
    checkpoint = saved(module, toy.folder / "a.ckpt")
    with pytest.raises(
        UserError, match=r"the member 'script' .* is code, which is not run because"
    ):
        load_algorithm(checkpoint)
    with pytest.raises(UserError, match=r"the member 'controller' .* is code"):
        load_algorithm(checkpoint, members={"script": str(path)})
    moved = toy.folder / "moved.pt"
    path.rename(moved)
    named = {"script": str(moved), "controller": "old_policies:controller"}
    loaded = load_algorithm(checkpoint, members=named)
    assert torch.equal(
        loaded.policies.modes(STATES),
        module.policies.modes(STATES),  # type: ignore[union-attr]
    )
    old_policies.write_torchscript(moved, seed=1)
    with pytest.raises(UserError, match=r"moved\.pt is not the file that the checkpoint's member"):
        load_algorithm(checkpoint, members=named)
    with pytest.raises(UserError, match="--members: odd is no member that has to be named; these"):
        load_algorithm(checkpoint, members={**named, "odd": "a.pt"})
    with pytest.raises(UserError, match="is not the code of 'script'"):
        load_algorithm(checkpoint, members={**named, "script": "a.ckpt"})
    other = toy.algorithm("OnlineIQL")
    toy.fit(other, 5)
    checkpoint = saved(other, toy.folder / "b.ckpt")
    with pytest.raises(UserError, match="OnlineIQL has no members to be named"):
        load_algorithm(checkpoint, members={"x": "a.pt"})


def test_a_python_object_is_added_and_given_again(toy: Any) -> None:
    toy.offline_path = None

    def new() -> PEX:
        module = alone(toy)
        module.add_member("mine", lambda states: np.full((len(states), 2), 0.25))
        return module

    module, keep = new(), kept(toy)
    toy.fit(module, 10, callbacks=[keep])
    assert module.policies.names == ("mine", "online")
    checkpoint = read_checkpoint(keep.last)
    with pytest.raises(UserError, match=r"the member 'mine' .* is code"):
        load_algorithm(checkpoint)
    loaded = load_algorithm(checkpoint, members={"mine": lambda states: np.ones((len(states), 2))})
    assert loaded.policies.modes(STATES)[0].unique().tolist() == [1.0]  # type: ignore[union-attr]
    resumed = new()
    toy.fit(resumed, 15, resume=keep.last)
    with pytest.raises(UserError, match="two members would be called 'mine'"):
        resumed.add_member("mine", old_policies.controller)


def test_a_policy_of_another_environment_is_refused(toy: Any, old_run: Path) -> None:
    module = alone(toy, str(old_run))
    with pytest.raises(UserError, match=r"old\.ckpt does not fit .*\n *observation size: 3 .* 4"):
        module.attach(toy.description(obs_dim=4))
    with pytest.raises(UserError, match="upper action bounds"):
        module.check_files(toy.description(action_high=(1.0, 1.0)))
    with pytest.raises(UserError, match=r"checkpoint gone\.ckpt does not exist"):
        alone(toy, "gone.ckpt").check_files(toy.description())
    with pytest.raises(UserError, match=r"there is no file gone\.pt"):
        alone(toy, "gone.pt").check_files(toy.description())


def test_a_member_that_proposes_nan_ends_the_run_in_a_sentence(toy: Any) -> None:
    toy.offline_path = None
    module = alone(toy, "old_policies:nan_beyond_three_steps", admission_steps=1000)
    with pytest.raises(UserError, match=r"nan_beyond_three_steps .* proposes NaN or infinity"):
        toy.fit(module, 20)


def test_members_can_act_in_other_processes(toy: Any) -> None:
    toy.offline_path = None
    path = toy.folder / "script.pt"
    old_policies.write_torchscript(path)
    module = alone(toy, str(path), "old_policies:controller", inv_temperature=0.0)
    module.attach(toy.description())
    policy = pickle.loads(pickle.dumps(module.acting_policy()))
    assert torch.equal(policy.policies.modes(STATES), module.policies.modes(STATES))


def test_code_from_outside_is_not_compiled_and_that_is_told(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    toy.offline_path = None
    module = alone(toy, "old_policies:controller", compile_update=True)
    message = "compile_update true, but the policy set has members .* (controller)"
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        toy.fit(module, 10)
    module = alone(toy, "old_policies:controller", compile_update="auto")
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("pex_lightning.updates.executor.WORTH_COMPILING", 1)
        toy.fit(module, 10)
    assert "The update is not compiled, so it is slower: the policy set has" in caplog.text


class Steps(Callback):
    """Keeps the learner, the moments and the admission of every chunk."""

    def __init__(self) -> None:
        self.learner: dict[int, dict[str, torch.Tensor]] = {}
        self.filled: dict[int, list[bool]] = {}
        self.share: dict[int, float] = {}
        self.counts: dict[int, set[int]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        step = trainer.global_step
        self.learner[step] = snapshot(pl_module.policies.learner)
        self.filled[step] = pl_module.policies.filled.tolist()
        self.share[step] = float(pl_module.admission.share)
        (optimizer,) = trainer.optimizers
        (actor,) = (group for group in optimizer.param_groups if group["name"] == "actor")
        self.counts[step] = {int(optimizer.state[p]["step"]) for p in actor["params"]}


def test_a_set_grows_at_its_steps(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps()
    module = toy.algorithm("PEX", grow_at=[12, 20], admission_steps=10)
    before: dict[str, torch.Tensor] = {}
    losses = module.losses

    def watched(batch: Any) -> Any:
        before.clear()
        before.update(snapshot(module.policies.learner))
        return losses(batch)

    module.losses = watched
    with caplog.at_level(logging.INFO):
        toy.fit(module, 30, callbacks=[steps])
    assert module.policies.names == ("offline", "online-1", "online-2", "online")
    assert steps.filled == {
        5: [True, False, False, True],
        10: [True, False, False, True],
        15: [True, True, False, True],
        20: [True, True, True, True],
        25: [True, True, True, True],
        30: [True, True, True, True],
    }
    assert steps.share == {5: 0.5, 10: 1.0, 15: 0.0, 20: 0.0, 25: 0.5, 30: 1.0}
    assert steps.counts == {5: {5}, 10: {10}, 15: {0}, 20: {0}, 25: {5}, 30: {10}}
    # A fresh policy each time.
    assert not torch.equal(
        steps.learner[15]["net.layers.0.weight"], steps.learner[20]["net.layers.0.weight"]
    )
    assert (steps.learner[15]["log_std"] == 0).all()
    assert (
        "The policy set grew at update 15: online-1 is the policy that has learned" in caplog.text
    )


def test_the_new_member_is_the_learner_of_that_step(toy: Any) -> None:
    module, twin, steps = (
        toy.algorithm("PEX", grow_at=[10]),
        toy.algorithm("PEX", grow_at=[99]),
        Steps(),
    )
    toy.fit(twin, 10)
    toy.fit(module, 20, callbacks=[steps])
    grown, learned = module.policies.frozen[1].state_dict(), twin.policies.learner.state_dict()
    for key, value in grown.items():
        assert value.numpy().tobytes() == learned[key].numpy().tobytes(), key
    fresh = steps.learner[10]
    assert not torch.equal(fresh["net.layers.0.weight"], learned["net.layers.0.weight"])


@pytest.mark.parametrize("start", ["copy", "copy_mean"])
def test_the_new_learner_goes_on_from_the_new_member_if_told(start: str, toy: Any) -> None:
    module = toy.algorithm("PEX", grow_at=[10], learner_start=start)
    toy.fit(module, 10)
    # Not at the end of a run, where nothing would learn any more.
    assert module.policies.filled.tolist() == [True, False, True]
    before = snapshot(module.policies.learner)
    module.trainer.fit_loop.epoch_loop.max_steps = 20
    module.follow(10)
    grown, learner = module.policies.frozen[1].state_dict(), module.policies.learner.state_dict()
    assert same(before, grown)
    for key, value in learner.items():
        assert torch.equal(value, grown[key]) == (start == "copy" or key != "log_std"), key


def test_a_run_is_resumed_in_the_middle_of_growth(toy: Any) -> None:
    def new() -> PEX:
        settings = {"grow_at": [10, 25], "admission_steps": 8, "grow_when_stalled": 5}
        module = toy.algorithm("PEX", largest_set=4, **settings)
        assert isinstance(module, PEX)
        return module

    whole = new()
    toy.fit(whole, 40)
    part, keep = new(), kept(toy)
    toy.fit(part, 40, callbacks=[keep, toy.StopAt(15)])
    last = keep.last
    checkpoint = read_checkpoint(last)
    assert checkpoint.header.members == ("offline", "online-1", "online-2", "online")
    loaded = load_algorithm(checkpoint)
    assert isinstance(loaded, PEX)
    assert loaded.policies.filled is not None
    assert loaded.policies.filled.tolist() == [True, True, False, True]
    assert same(snapshot(part), snapshot(loaded))
    torch.testing.assert_close(loaded.policies.modes(STATES), part.policies.modes(STATES))
    toy.offline_path = None
    resumed = new()
    steps = Steps()
    toy.fit(resumed, 40, resume=last, callbacks=[steps])
    assert resumed.policies.filled.tolist() == [True, True, True, True]
    assert resumed.growth.steps.tolist() == whole.growth.steps.tolist() == [10, 25]
    assert steps.share == {20: 1.0, 25: 0.0, 30: 0.625, 35: 1.0, 40: 1.0}
    assert same(snapshot(resumed.policies.frozen[1]), snapshot(whole.policies.frozen[1]))


def test_a_set_grows_when_progress_stops(toy: Any) -> None:
    returns = iter([1.0, 2.0, 0.0, 1.5, 3.0, 0.0, 0.0, 0.0])

    def evaluate(trainer: Any, module: Any) -> None:
        module.on_evaluation({"eval/return": next(returns)})

    steps = Steps()
    module = toy.algorithm("PEX", grow_when_stalled=2, largest_set=4)
    toy.fit(module, 40, callbacks=[toy.Boundary(5, evaluate), steps])
    # At 40 the run ends.
    assert module.growth.steps.tolist() == [20, 35]
    assert steps.filled[15] == [True, False, False, True]
    assert steps.filled[20] == [True, True, False, True]


def test_all_processes_begin_again_with_the_same_policy(toy: Any) -> None:
    learners = []
    for seed in (1, 2):
        module = toy.algorithm("PEX", grow_at=[1])
        module.attach(toy.description())
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        module.follow(1)
        assert torch.equal(torch.random.get_rng_state(), state)
        learners.append(snapshot(module.policies.learner))
    assert same(*learners)


def test_a_grown_set_trains_with_every_setting_of_the_choice(toy: Any) -> None:
    for settings in (
        {"rpex_scale": 0.1},
        {"choice": "epsilon_greedy", "backup": "choice"},
        {"target_entropy": 0.5, "choice_values": "blend", "train_offline_policy": True},
    ):
        module = toy.algorithm("PEX", grow_at=[5], **settings)
        toy.fit(module, 10)
        assert module.policies.filled.all()
        (batch,) = batches(toy.chunk())
        assert torch.isfinite(module.losses(batch).total)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grow_at": [0]}, r"grow_at is \[0\]; it must be steps above 0"),
        ({"grow_at": [5, 5]}, r"grow_at is \[5, 5\]; it must be steps above 0, each above"),
        ({"grow_when_stalled": 0, "largest_set": 3}, "grow_when_stalled is 0; it must be at least"),
        ({"grow_when_stalled": 2}, "grow_when_stalled needs --model.largest_set"),
        ({"largest_set": 5}, "largest_set needs --model.grow_at or --model.grow_when_stalled"),
        ({"grow_at": [5, 9], "largest_set": 3}, "largest_set is 3; it must be at least 4"),
        ({"grow_when_stalled": 1, "largest_set": 2}, "largest_set is 2; it must be at least 3"),
        (
            {"offline_member": False, "learner_start": "copy"},
            "learner_start copy needs the offline stage's policy",
        ),
        (
            {"offline_member": False, "train_offline_policy": True},
            r"train_offline_policy needs --model\.offline_member true",
        ),
        ({"grow_when_stalled": 1, "largest_set": 10**9}, r"number of members is .* at most 1,000"),
        ({"grow_at": [5], "members": ["online-1.pt"]}, "two members would be called 'online-1'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        PEX(**settings)
