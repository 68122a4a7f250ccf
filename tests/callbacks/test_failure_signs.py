"""Each sign, provoked in a run; and how often it is warned of."""

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor

from pex_lightning.algorithms import Algorithm
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.failure_signs import FailureSigns
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.signs import Thresholds
from pex_lightning.policies.values import CandidateValues

RIGHT = "PexRight-v0"


class Fixed(CandidateValues):
    """Values that do not depend on states or candidates."""

    def __init__(self, values: tuple[float, ...]) -> None:
        super().__init__()
        self.values = values

    def forward(self, observation: Tensor, candidates: Tensor) -> Tensor:
        found = observation.new_tensor(self.values)
        return found.unsqueeze(-1).expand(-1, observation.shape[0])


class Module:
    """What is asked of a module."""

    hparams: ClassVar[dict[str, Any]] = {}

    def acting_policy(self) -> Any:
        return type("Acting", (), {"members": ("policy",)})


class AtStart(Callback):
    """Calls `change` with the module when training starts."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.change(pl_module)


class RightEnv(gymnasium.Env):
    """One step; the task is to go right."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            np.array((-1, -0.5), np.float32), np.array((1, 2), np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = bool(action[0] > 0)
        return np.zeros(3, np.float32), float(right), True, False, {"success": right}


@pytest.fixture
def right() -> Iterator[str]:
    gymnasium.register(RIGHT, entry_point=RightEnv, max_episode_steps=5)
    yield RIGHT
    gymnasium.registry.pop(RIGHT)


def callbacks(
    every: int = 10**6, members: Any = "never", **limits: Any
) -> tuple[FailureSigns, list[Callback]]:
    evaluation = Evaluation(6, every, seed=7, num_envs=1, members=members)
    metrics = TrainMetrics(evaluation)
    signs = FailureSigns(metrics, evaluation, Thresholds(reports=2, **limits))
    return signs, [evaluation, metrics, signs]


def train(
    toy: Any,
    module: Algorithm,
    caplog: pytest.LogCaptureFixture,
    steps: int = 20,
    change: Any = lambda module: None,
    every: int = 10**6,
    members: Any = "never",
    **settings: Any,
) -> tuple[FailureSigns, list[str]]:
    signs, given = callbacks(every, members)
    with caplog.at_level(logging.WARNING, "pex_lightning"):
        toy.fit(module, steps, callbacks=[AtStart(change), *given], log_every_n_steps=5, **settings)
    lines = [record.getMessage() for record in caplog.records]
    return signs, [line for line in lines if line.startswith("Sign of failure")]


def values(*fixed: float) -> Any:
    def change(module: Any) -> None:
        module.composite.values = Fixed(fixed)

    return change


@pytest.mark.parametrize(
    ("fixed", "name"), [((0.0, 9.0), "offline_share_near_0"), ((9.0, 0.0), "offline_share_near_1")]
)
def test_a_member_that_always_acts(
    fixed: tuple[float, float], name: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = toy.algorithm("PEX")
    signs, lines = train(toy, module, caplog, change=values(*fixed))
    assert set(signs.warned) == {name, "entropy_collapsed"}
    assert "--model.inv_temperature" in "".join(lines)


def test_a_collapsed_choice(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    module = toy.algorithm("PEX", inv_temperature=1e6)
    signs, lines = train(toy, module, caplog)
    assert "entropy_collapsed" in signs.warned
    (line,) = [line for line in lines if "entropy" in line]
    assert line.startswith(f"Sign of failure at step {signs.warned['entropy_collapsed'].step}: ")
    assert "a smaller --model.inv_temperature or --model.target_entropy" in line


@pytest.mark.parametrize("rule", ["greedy", "uniform"])
def test_a_rule_without_entropy_of_its_own_has_not_collapsed(
    rule: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    signs, _ = train(toy, toy.algorithm("PEX", choice=rule), caplog)
    assert "entropy_collapsed" not in signs.warned


def test_a_learner_that_is_held_back_is_no_sign(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    module = toy.algorithm("PEX", admission_steps=10**6)
    assert train(toy, module, caplog)[1] == []


@pytest.mark.parametrize("name", ["JSRL", "BT"])
def test_members_that_take_turns_are_no_sign(
    name: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    signs, _ = train(toy, toy.algorithm(name), caplog)
    assert not {"offline_share_near_0", "offline_share_near_1"} & set(signs.warned)
    assert "entropy_collapsed" not in signs.warned


def test_q_functions_that_grow_apart(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Push(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 20:
                with torch.no_grad():
                    for parameter in pl_module.critic.q_net.parameters():
                        parameter[0] = parameter[0] + 3.0

    module = toy.algorithm("IQL", learning_rate=1e-6)
    signs, given = callbacks()
    with caplog.at_level(logging.WARNING, "pex_lightning"):
        toy.fit(module, 40, callbacks=[Push(), *given], log_every_n_steps=5)
    assert set(signs.warned) == {"disagreement_grows"}
    assert signs.warned["disagreement_grows"].step >= 25
    assert "--model.num_q in both stages" in caplog.text


@pytest.mark.parametrize(("value", "name"), [(-9.0, "weights_at_cap"), (9.0, "weights_near_0")])
@pytest.mark.parametrize("method", ["IQL", "PEX"])
def test_weights_of_one_kind_alone(
    method: str, value: float, name: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def change(module: Any) -> None:
        # Every V is far from every Q.
        with torch.no_grad():
            list(module.critic.v_net.parameters())[-1].fill_(value)

    module = toy.algorithm(method, learning_rate=1e-6, beta=10.0)
    signs, lines = train(toy, module, caplog, change=change)
    assert name in signs.warned
    (line,) = [line for line in lines if "advantage weights" in line]
    assert "a smaller --model.beta" in line
    # A setting that the method does not have.
    assert "--model.temperature" not in line


def go(policy: Any, raw: float) -> None:
    """Let the mode be at the right (`raw` above 0) or at the left."""
    *_, weight, bias = policy.net.parameters()
    with torch.no_grad():
        weight.zero_()
        bias.fill_(raw)


def test_starts_that_the_offline_policy_solved_are_lost(
    right: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def change(module: Any) -> None:
        go(module.offline_policy, 3.0)
        go(module.policies.learner, -3.0)
        module.composite.values = Fixed((0.0, 9.0))

    module = toy.algorithm("PEX", eval_epsilon=0.0, learning_rate=1e-6)
    data = toy.online_data(env=right)
    signs, lines = train(toy, module, caplog, 20, change, every=10, members="ends", data=data)
    # In the evaluation of the start it is seen first, and then in the next one.
    assert signs.warned["starts_lost"].step == 10
    assert any("6 of the 6 episode starts" in line for line in lines)


def test_each_is_warned_of_once_also_if_the_run_is_resumed(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def run(steps: int, resume: Any = None) -> FailureSigns:
        signs, given = callbacks()
        saver = RunCheckpoint(toy.folder, 10**6, given[0])  # type: ignore[arg-type]
        module = toy.algorithm("PEX", inv_temperature=1e6)
        all_callbacks = [AtStart(values(0.0, 9.0)), *given, saver]
        toy.fit(module, steps, callbacks=all_callbacks, log_every_n_steps=5, resume=resume)
        return signs

    with caplog.at_level(logging.WARNING, "pex_lightning"):
        first = run(30)
        told = caplog.text.count("Sign of failure")
        resumed = run(60, toy.folder / "last.ckpt")
    assert told == len(first.warned) == 2
    assert resumed.warned == first.warned
    assert caplog.text.count("Sign of failure") == told


def test_a_sign_has_to_be_seen_in_a_row() -> None:
    metrics, evaluation = TrainMetrics(), Evaluation(1, 1, seed=0)
    signs = FailureSigns(metrics, evaluation, Thresholds(reports=2))
    signs_at = []

    for step, share in enumerate((0.9, 0.1, 0.9, 0.9, 0.9), 1):
        metrics.latest, metrics.reported_at = {"train/weight_at_cap": share}, step
        trainer = type("Trainer", (), {"global_step": step, "is_global_zero": True})
        # Read several times between two reports, as callbacks are.
        for _ in range(3):
            signs._read(trainer, Module())  # type: ignore[arg-type]
        signs_at.append("weights_at_cap" in signs.warned)
    assert signs_at == [False, False, False, True, True]


def test_only_the_first_process_warns(caplog: pytest.LogCaptureFixture) -> None:
    metrics, evaluation = TrainMetrics(), Evaluation(1, 1, seed=0)
    signs = FailureSigns(metrics, evaluation, Thresholds(reports=1))
    metrics.latest, metrics.reported_at = {"train/weight_at_cap": 0.9}, 1

    trainer = type("Trainer", (), {"global_step": 1, "is_global_zero": False})
    with caplog.at_level(logging.WARNING, "pex_lightning"):
        signs._read(trainer, Module())  # type: ignore[arg-type]
    assert "weights_at_cap" in signs.warned
    assert "Sign of failure" not in caplog.text
