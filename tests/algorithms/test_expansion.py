"""What methods with a new policy beside the offline one take over, and how it starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pex_lightning.algorithms import load_algorithm
from pex_lightning.algorithms.expansion import Expansion
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import batches

EXPANSIONS = pytest.mark.parametrize("name", ["PEX", "JSRL", "BT"])


def attached(toy: Any, name: str, **settings: Any) -> Expansion:
    module = toy.algorithm(name, **settings)
    module.attach(toy.description())
    return module


@EXPANSIONS
@pytest.mark.parametrize(
    ("critic_start", "taken"),
    [("transferred", {"q", "v"}), ("q", {"q"}), ("v", {"v"}), ("fresh", set())],
)
def test_the_critic_takes_over_what_is_told(
    name: str, critic_start: str, taken: set[str], toy: Any
) -> None:
    module = attached(toy, name, critic_start=critic_start)
    offline = read_checkpoint(toy.offline_path)
    for part, net in (("q", module.critic.q_net), ("v", module.critic.v_net)):
        given = offline.part(part)  # type: ignore[arg-type]
        same = all(torch.equal(value, given[key]) for key, value in net.state_dict().items())
        assert same == (part in taken), part
    target = offline.part("target")
    own = module.critic.q_net.state_dict()
    expected = target if "q" in taken and name != "BT" else own
    for key, value in module.critic.target_q_net.state_dict().items():
        assert torch.equal(value, expected[key]), key
    trainer = toy.fit(module, 5)
    (optimizer,) = trainer.optimizers
    for group in optimizer.param_groups:
        steps = {int(optimizer.state[p]["step"]) for p in group["params"]}
        assert steps == {25 if group["name"] in taken else 5}, group["name"]


@EXPANSIONS
def test_the_new_policy_starts_as_told(name: str, toy: Any) -> None:
    offline = read_checkpoint(toy.offline_path).part("policy")
    for start in ("fresh", "copy", "copy_mean"):
        module = attached(toy, name, learner_start=start)
        learner = module.policies.learner.state_dict()
        nets = [key for key in learner if key.startswith("net.")]
        same = all(torch.equal(learner[key], offline[key]) for key in nets)
        assert same == (start != "fresh")
        assert torch.equal(learner["log_std"], offline["log_std"]) == (start == "copy")
        assert start == "copy" or torch.equal(learner["log_std"], torch.zeros(2))


def test_a_copy_of_a_policy_of_other_sizes_is_refused(toy: Any) -> None:
    module = toy.algorithm("JSRL", learner_start="copy", hidden_dims=[4])
    with pytest.raises(UserError, match=r"JSRL cannot start from .*offline.ckpt"):
        module.attach(toy.description())


@EXPANSIONS
def test_the_offline_policy_stays_as_it_was(name: str, toy: Any) -> None:
    module = toy.algorithm(name, learning_rate=0.01)
    toy.fit(module, 20)
    offline = read_checkpoint(toy.offline_path).part("policy")
    for key, value in module.offline_policy.state_dict().items():
        assert value.numpy().tobytes() == offline[key].numpy().tobytes(), key


def test_pex_can_train_the_offline_policy_too(toy: Any) -> None:
    module = attached(toy, "PEX", train_offline_policy=True)
    assert list(module.groups()) == ["q", "v", "actor", "offline_actor"]
    (batch,) = batches(toy.chunk())
    module.losses(batch).terms["offline_actor"].backward()
    for key, parameter in module.named_parameters():
        learns = key.startswith("policies.frozen.0.")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, key
    before = {k: v.clone() for k, v in module.offline_policy.state_dict().items()}
    toy.fit(module, 10)
    after = module.offline_policy.state_dict()
    assert not torch.equal(before["log_std"], after["log_std"])
    path = toy.folder / "a.ckpt"
    module.trainer.save_checkpoint(path)
    loaded = load_algorithm(read_checkpoint(path))
    assert isinstance(loaded, Expansion)
    assert torch.equal(after["log_std"], loaded.offline_policy.log_std)
    assert loaded.offline_policy.log_std.requires_grad


@pytest.mark.parametrize("key", ["critic_start", "learner_start"])
def test_settings_that_do_not_exist_are_refused(key: str, toy: Any) -> None:
    with pytest.raises(UserError, match=rf"--model\.{key} is none"):
        toy.algorithm("PEX", **{key: "none"})


@pytest.fixture
def other(toy: Any) -> Any:
    """The checkpoint of another offline stage."""
    path = toy.folder / "other.ckpt"
    trainer = toy.fit(toy.algorithm("IQL"), 10, seed=5)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("start", ["transferred", "q", "v"])
def test_the_critic_may_come_from_another_checkpoint(start: str, toy: Any, other: Any) -> None:
    module = toy.algorithm("PEX", critic_start=start, critic_ckpt_path=str(other))
    toy.fit(module, 5)
    module = toy.algorithm("PEX", critic_start=start, critic_ckpt_path=str(other))
    module.attach(toy.description())
    state = module.state_dict()
    offline, another = read_checkpoint(toy.offline_path), read_checkpoint(other)
    for key, value in offline.part("policy").items():
        assert torch.equal(state[f"policies.frozen.0.{key}"], value)
    for part, prefix in (("q", "q_net"), ("target", "target_q_net"), ("v", "v_net")):
        taken = start == "transferred" or (start == "v") == (part == "v")
        for key, value in another.part(part).items():
            assert torch.equal(state[f"critic.{prefix}.{key}"], value) == taken, (part, key)


def test_another_critic_that_does_not_fit_is_refused_before_any_stage(toy: Any, other: Any) -> None:
    module = toy.algorithm("PEX", hidden_dims=[9], critic_ckpt_path=str(other))
    with pytest.raises(UserError, match=r"other\.ckpt does not fit this run"):
        module.check_files(toy.description())
    module = toy.algorithm("BT", critic_ckpt_path="none.ckpt")
    with pytest.raises(UserError, match=r"none\.ckpt does not exist"):
        module.check_files(toy.description())


def test_another_critic_with_a_fresh_start_is_a_contradiction(toy: Any) -> None:
    with pytest.raises(UserError, match="critic_start is fresh"):
        toy.algorithm("JSRL", critic_ckpt_path="any.ckpt")
