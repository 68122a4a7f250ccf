"""What is computed at a report: of the critic, and of the choice between members."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.algorithms.diagnosis import diagnose


def module_of(name: str, toy: Any, **settings: Any) -> Any:
    module = toy.algorithm(name, **settings)
    module.attach(toy.description())
    return module


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_method_says_how_far_its_q_functions_are_apart(name: str, toy: Any) -> None:
    module, chunk = module_of(name, toy), toy.chunk(3)
    found = diagnose(module, chunk)
    last = chunk[-1]
    with torch.no_grad():
        q = module.critic.q(last["observation"], last["action"]).numpy()
    assert found["q_disagreement"] == pytest.approx(q.std(axis=0).mean())
    assert found["q_size"] == pytest.approx(np.abs(q).mean())
    assert found["q_data"] == pytest.approx(q.min(axis=0).mean(), rel=1e-4)


def test_one_q_function_agrees_with_itself(toy: Any) -> None:
    module = toy.algorithm("OnlineIQL", num_q=1)
    module.attach(toy.description())
    assert set(diagnose(module, toy.chunk())) == {"q_size", "q_data", "q_random"}


def test_random_actions_fill_the_action_space(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, chunk, asked = module_of("OnlineIQL", toy), toy.chunk(1, 2_000), []

    def values(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        asked.append(action)
        return action.sum(-1).expand(2, -1)

    monkeypatch.setattr(module.critic, "q", values)
    found = diagnose(module, chunk)
    env = toy.description().env
    low, high = (torch.tensor(bounds) for bounds in (env.action_low, env.action_high))
    assert len(asked) == 2
    assert ((asked[1] >= low) & (asked[1] <= high)).all()
    # Five standard errors of the mean of a uniform number.
    assert torch.allclose(
        asked[1].mean(0),
        (low + high) / 2,
        atol=5 * float((high - low).max()) / math.sqrt(12 * 2_000),
    )
    assert found["q_random"] == pytest.approx(float(asked[1].sum(-1).mean()), rel=1e-4)


def test_a_composite_policy_says_how_it_chooses(toy: Any) -> None:
    module = module_of("PEX", toy, inv_temperature=1e-6, admission_steps=100)
    module.follow(25)
    found = diagnose(module, toy.chunk(1, 64))
    assert found["choice_entropy_fraction"] == pytest.approx(1.0)
    assert found["admitted"] == pytest.approx(0.25)
    assert "inv_temperature" not in found
    observation = toy.chunk(1, 64)[-1]["observation"]
    values = module.composite.choose(observation, observation[:, :0])[1]
    assert abs(found["q/offline"] - float(values[0].mean())) < 1.0


def test_the_value_of_each_candidate_is_a_mean_over_the_batch(toy: Any) -> None:
    module = module_of("PEX", toy)
    chunk = toy.chunk(1, 64)
    found = diagnose(module, chunk)
    observation = chunk[-1]["observation"]
    with torch.no_grad():
        mode = module.offline_policy.mode(observation)
        expected = module.critic.q(observation, mode).amin(0).mean()
    assert found["q/offline"] == pytest.approx(float(expected))
    assert math.isfinite(found["q/online"])


def test_an_inverse_temperature_that_changes_is_told(toy: Any) -> None:
    module = module_of("PEX", toy, target_entropy=0.5, inv_temperature=4.0)
    assert diagnose(module, toy.chunk())["inv_temperature"] == pytest.approx(4.0)


@pytest.mark.parametrize("name", ["IQL", "PEX", "JSRL"])
def test_no_random_numbers_of_training_are_drawn(name: str, toy: Any) -> None:
    module, chunk = module_of(name, toy), toy.chunk()
    before = torch.get_rng_state()
    assert diagnose(module, chunk) == diagnose(module, chunk)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["IQL", "PEX"])
def test_on_a_gpu_no_random_numbers_of_training_are_drawn(name: str, toy: Any) -> None:
    module, chunk = module_of(name, toy).cuda(), toy.chunk().to("cuda")
    before = torch.cuda.get_rng_state()
    found = diagnose(module, chunk)
    assert found == diagnose(module, chunk)
    assert all(math.isfinite(value) for value in found.values())
    assert torch.equal(before, torch.cuda.get_rng_state())
