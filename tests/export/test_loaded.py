"""A policy back from a run: what it does, what it remembers, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper, InitTracker, TransformedEnv

import pex_lightning
from pex_lightning import load_policy
from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.envs.make import make_env
from pex_lightning.errors import UserError
from pex_lightning.export.loaded import LoadedPolicy
from pex_lightning.policies.acting import ActingPolicy

STATES = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
LOW, HIGH = np.array([-1.0, -0.5]), np.array([1.0, 2.0])


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, pex_lightning; pex_lightning.__version__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pex_lightning.load_policy is load_policy
    with pytest.raises(AttributeError, match="no attribute 'load_polcy'"):
        pex_lightning.load_polcy  # noqa: B018


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_method_does_what_an_evaluation_does(name: str, saved: Any) -> None:
    exact = {"eval_epsilon": 0.0} if name == "PEX" else {}
    policy = load_policy(saved(name, **exact))
    acting = policy.policy
    memory = acting.initial_memory(torch.from_numpy(STATES))
    for _ in range(3):
        expected, memory = acting.evaluation_action(torch.from_numpy(STATES), memory)
        found = policy.predict(STATES)
        np.testing.assert_array_equal(found, expected.numpy())
        assert found.dtype == np.float32
    choice = policy.last_choice
    assert choice is not None
    assert choice.probs.shape == (40, len(policy.members))
    np.testing.assert_allclose(choice.probs.sum(1), 1.0, rtol=1e-5)
    assert choice.members == tuple(policy.members[i] for i in choice.policy_index)


@pytest.mark.parametrize("name", ["IQL", "RLPD", "PEX", "JSRL", "BT"])
def test_one_observation_or_many_numpy_or_tensors(name: str, saved: Any) -> None:
    policy = load_policy(saved(name))
    many = policy.predict(STATES)
    assert isinstance(many, np.ndarray)
    policy.reset()
    tensors = policy.predict(torch.from_numpy(STATES).double())
    assert isinstance(tensors, torch.Tensor)
    assert tensors.dtype == torch.float32
    np.testing.assert_array_equal(tensors.numpy(), many)
    for row in (0, 7):
        policy.reset()
        one = policy.predict(STATES[row])
        assert one.shape == (2,)
        np.testing.assert_allclose(one, many[row], rtol=1e-5, atol=1e-6)


def test_the_action_is_that_of_the_member_which_is_named(saved: Any) -> None:
    policy = load_policy(saved("PEX"))
    actions = policy.predict(STATES)
    choice = policy.last_choice
    assert choice is not None
    assert set(choice.policy_index) == {0, 1}
    for row, number in enumerate(choice.policy_index):
        alone = policy.policy.alone(int(number))
        assert alone is not None
        expected = alone(torch.from_numpy(STATES[row : row + 1]))[0]
        np.testing.assert_allclose(actions[row], expected.detach(), rtol=1e-5, atol=1e-6)
    # The rule's best choice is the one of the largest probability.
    np.testing.assert_array_equal(choice.probs.argmax(1), choice.policy_index)


@pytest.mark.parametrize(("share", "learner_may"), [(0.2, False), (0.6, True)])
def test_a_learner_counts_once_it_is_admitted_for_the_most_part(
    share: float, learner_may: bool, saved: Any
) -> None:
    path = saved("PEX", lambda module: module.admission.share.fill_(share), eval_epsilon=0.5)
    policy = load_policy(path)
    first = policy.predict(STATES)
    assert policy.last_choice is not None
    assert (1 in policy.last_choice.policy_index) == learner_may
    np.testing.assert_array_equal(policy.predict(STATES), first)


def test_a_uniform_choice_takes_the_member_of_the_largest_value(saved: Any) -> None:
    policy = load_policy(saved("PEX", choice="uniform"))
    greedy = load_policy(saved("PEX", choice="greedy"))
    np.testing.assert_array_equal(policy.predict(STATES), greedy.predict(STATES))
    assert policy.last_choice is not None
    np.testing.assert_allclose(policy.last_choice.probs, 0.5)


@pytest.mark.parametrize("name", ["IQL", "PEX", "BT"])
def test_random_actions_follow_the_seed_and_leave_other_streams_alone(
    name: str, saved: Any
) -> None:
    path = saved(name)
    policy = load_policy(path)
    before = torch.get_rng_state()
    first, second = (policy.predict(STATES, deterministic=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(first, second)
    assert (first >= LOW).all()
    assert (first <= HIGH).all()
    again = load_policy(path)
    np.testing.assert_array_equal(again.predict(STATES, deterministic=False), first)
    other = load_policy(path, seed=1)
    assert not np.array_equal(other.predict(STATES, deterministic=False), first)
    drawn = []
    for _ in range(2):
        policy.reset()
        drawn.append(policy.predict(STATES, deterministic=False, seed=5))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(("name", "settings"), [("BT", {}), ("PEX", {"admission": "evidence"})])
def test_memory_of_collecting_alone_ties_no_rows_together(
    name: str, settings: Any, saved: Any
) -> None:
    policy = load_policy(saved(name, **settings))
    assert policy.memory_size > 0
    states = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    many = policy.predict(states)
    assert np.allclose(policy.predict(states[:2]), many[:2], atol=1e-6)
    assert "is_init" not in policy.as_tensordict_module().in_keys
    assert "is_init" in policy.as_tensordict_module(deterministic=False).in_keys
    policy.predict(states, deterministic=False)
    with pytest.raises(ValueError, match="found 2 rows after 5"):
        policy.predict(states[:2], deterministic=False)


def test_a_guide_acts_as_long_as_in_an_evaluation(saved: Any) -> None:
    path = saved("JSRL", guide_steps=2, guide_schedule="curriculum")
    policy = load_policy(path)
    turns = []
    for step in range(5):
        if step == 3:
            policy.reset([True, False])
        policy.predict(STATES[:2])
        assert policy.last_choice is not None
        turns.append(policy.last_choice.members)
    guided, alone = ("offline", "offline"), ("online", "online")
    assert turns == [guided, guided, alone, ("offline", "online"), ("offline", "online")]
    with pytest.raises(ValueError, match=r"3 rows after 2.*Call reset"):
        policy.predict(STATES[:3])
    with pytest.raises(ValueError, match=r"shape \[3\], expected \[2\]"):
        policy.reset([True, False, True])
    policy.reset()
    policy.predict(STATES[:3])


class TakesTurns(ActingPolicy):
    """A policy of a user, which only says what has to be said."""

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        raise NotImplementedError

    def evaluation_action(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        return observation[:, :2], memory + 1


@pytest.mark.parametrize("members", [("one",), ("one", "two")])
def test_a_policy_that_does_not_say_who_acts(members: tuple[str, ...], saved: Any) -> None:
    policy = LoadedPolicy(TakesTurns(members, 1), load_policy(saved("IQL")).checkpoint)
    np.testing.assert_array_equal(policy.predict(STATES), STATES[:, :2])
    choice = policy.last_choice
    assert choice is not None
    alone = len(members) == 1
    assert set(choice.policy_index) == {0 if alone else -1}
    assert set(choice.members) == {"one" if alone else ""}
    np.testing.assert_array_equal(choice.probs, np.full((40, len(members)), float(alone)))


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (np.zeros(4), r"shape \[4\], expected .*\[3\] or \[B, 3\] \(PexTiny-v0\)"),
        (np.zeros((0, 3)), r"shape \[0, 3\]"),
        (np.zeros((2, 2, 3)), r"shape \[2, 2, 3\]"),
        (np.float32(1.0), "found float32"),
        (np.array([0.0, np.nan, 0.0]), "1 of 1 rows hold NaN or infinity"),
        (torch.tensor([[0.0, 0.0, np.inf], [0.0, 0.0, 0.0]]), "1 of 2 rows"),
        (np.array(["a", "b", "c"]), "expected real numbers"),
        (torch.zeros(3, dtype=torch.complex64), "expected real numbers"),
        ([0.0, 0.0, 0.0], "found list"),
        ({"observation": np.zeros(3)}, "found dict, expected an array"),
    ],
)
def test_wrong_observations_are_refused(observation: Any, said: str, saved: Any) -> None:
    policy = load_policy(saved("IQL"))
    with pytest.raises(ValueError, match=said):
        policy.predict(observation)


def test_a_run_is_known_by_its_folder(saved: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    last = saved("IQL", path=run / "offline" / "checkpoints" / "last.ckpt")
    assert load_policy(run).checkpoint.path == last
    with pytest.raises(UserError, match=r"has no best.ckpt, but last.ckpt"):
        load_policy(run, checkpoint="best")
    # A stage that has begun, but has no checkpoint yet, is passed over.
    (run / "online" / "checkpoints").mkdir(parents=True)
    assert load_policy(run).checkpoint.path == last
    online = saved("PEX", path=run / "online" / "checkpoints" / "last.ckpt")
    assert load_policy(run).checkpoint.path == online
    assert load_policy(run / "offline").checkpoint.path == last
    assert load_policy(str(last)).checkpoint.path == last
    assert load_policy(run).env.id == "PexTiny-v0"
    assert "PEX" in repr(load_policy(run))
    with pytest.raises(UserError, match="folder without checkpoints"):
        load_policy(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_policy(tmp_path / "none")
    with pytest.raises(UserError, match="must be last or best"):
        load_policy(run, checkpoint="first")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="device meter cannot be used"):
        load_policy(run, device="meter")


def torchrl_env(*, tracked: bool) -> Any:
    env = GymWrapper(make_env("PexTiny-v0"))
    return TransformedEnv(env, InitTracker()) if tracked else env


@pytest.mark.parametrize("deterministic", [True, False])
def test_rollouts_of_torchrl(deterministic: bool, saved: Any) -> None:
    policy = load_policy(saved("PEX"))
    module = policy.as_tensordict_module(deterministic)
    frames = torchrl_env(tracked=False).rollout(12, module, break_when_any_done=False)
    assert frames["action"].shape == (12, 2)
    if deterministic:
        expected = policy.predict(frames["observation"])
        torch.testing.assert_close(frames["action"], expected, rtol=1e-5, atol=1e-6)


def test_collectors_of_torchrl_carry_the_memory_on(saved: Any) -> None:
    policy = load_policy(saved("JSRL", guide_steps=2, guide_schedule="curriculum"))
    env = torchrl_env(tracked=True)
    collector = Collector(env, policy.as_tensordict_module(), frames_per_batch=12, total_frames=12)
    (frames,) = list(collector)
    # Episodes have five steps; the guide takes the first two of each.
    assert frames["policy_index"].tolist() == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0]
    rolled = torchrl_env(tracked=True).rollout(
        12, policy.as_tensordict_module(), break_when_any_done=False
    )
    assert rolled["policy_index"].tolist() == frames["policy_index"].tolist()
    with pytest.raises(UserError, match="InitTracker"):
        torchrl_env(tracked=False).rollout(3, policy.as_tensordict_module())
