"""Every method learns: it comes much nearer to a goal than the same method that does not learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from pytorch_lightning import seed_everything

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.data.online import OnlineData
from pex_lightning.handover import read_checkpoint

ENV, STEPS, STRIDE = "PexReach-v0", 15, 0.2
OFFLINE = {
    "OnlineAWAC": "AWAC",
    "OnlineCalQL": "CalQL",
    "WSRL": "CalQL",
    "Off2On": "IQLEnsemble",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "CalQL": {"num_q": 2, "cql_alpha": 0.5, "cql_actions": 4},
    "RLPD": {"num_q": 4, "actor_every": 2},
    "WSRL": {"num_q": 2, "actor_every": 2, "layer_norm": False},
    "IQLEnsemble": {"ensemble_size": 2},
    "Off2On": {"ensemble_size": 2},
    "BT": {"longest_flight": 5},
    "JSRL": {"guide_schedule": "random", "guide_steps": 5},
}
ONLINE = [name for name, method in ALGORITHMS.items() if method.acts]


class Reach(gymnasium.Env):
    """A point on a line is to come to 0 from -1 or 1; the reward is minus its distance."""

    observation_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = float(self.np_random.choice([-1.0, 1.0]))
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at = float(np.clip(self.at + STRIDE * float(action[0]), -1.5, 1.5))
        return self._observe(), -abs(self.at), False, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.at, 1.0], np.float32)


@pytest.fixture(scope="module", autouse=True)
def _env() -> Iterator[None]:
    gymnasium.register(ENV, entry_point=Reach, max_episode_steps=STEPS)
    yield
    gymnasium.registry.pop(ENV)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 episodes of random actions, each with a drift of its own."""
    rng, env, rows = np.random.default_rng(0), Reach(), []
    for episode in range(200):
        state, _ = env.reset(seed=episode)
        drift = rng.uniform(-0.7, 0.7)
        for step in range(STEPS):
            action = np.clip(drift + rng.normal(0, 0.5, 1), -1, 1).astype(np.float32)
            following, reward, *_ = env.step(action)
            rows.append((state, action, reward, step == STEPS - 1))
            state = following
    path = tmp_path_factory.mktemp("reach") / "reach.hdf5"
    states, actions, rewards, ends = (np.array(column) for column in zip(*rows, strict=True))
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = states, actions
        file["rewards"], file["timeouts"] = rewards.astype(np.float32), ends
        file["terminals"] = np.zeros_like(ends)
    return path


def mean_return(module: Any) -> float:
    """Mean return of 100 episodes of the policy as it is evaluated."""
    torch.manual_seed(0)
    policy, total = module.acting_policy(), torch.zeros(100)
    at = torch.where(torch.arange(100) % 2 == 0, -1.0, 1.0)
    memory = policy.initial_memory(at.unsqueeze(-1))
    for _ in range(STEPS):
        state = torch.stack((at, torch.ones(100)), dim=-1)
        action, memory = policy.evaluation_action(state, memory)
        at = (at + STRIDE * action.squeeze(-1)).clamp(-1.5, 1.5)
        total -= at.abs()
    return total.mean().item()


def learnt(toy: Any, dataset: Path, name: str, learning_rate: float) -> float:
    """Train a method, with its offline stage if it has one; the return at the end."""
    shared = {"hidden_dims": [32, 32], "learning_rate": learning_rate, "gamma": 0.9}

    def fit(method: str, updates: int, data: Any, before: Path | None = None) -> Any:
        settings = {**shared, **SETTINGS.get(method, {})}
        module = ALGORITHMS[method](**settings)
        if before is not None:
            module.hand_over(read_checkpoint(before))
        seed_everything(0, verbose=False)
        toy.trainer(updates).fit(module, datamodule=data)
        return module

    data = OnlineData(env=ENV, path=str(dataset), batch_size=64, start_steps=100, chunk_size=10)
    before = None
    if ALGORITHMS[name](**SETTINGS.get(name, {})).takes:
        offline = fit(OFFLINE.get(name, "IQL"), 300, data.offline_stage())
        before = toy.folder / "offline.ckpt"
        offline.trainer.save_checkpoint(before)
    return mean_return(fit(name, 700, data, before))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name == "PEX" else pytest.param(name, marks=pytest.mark.long) for name in ONLINE],
)
def test_a_method_that_learns_beats_one_that_does_not(name: str, toy: Any, dataset: Path) -> None:
    # The best return is -2, that of standing still -15.
    idle, returned = (learnt(toy, dataset, name, rate) for rate in (1e-9, 3e-3))
    assert idle < -8.0
    assert returned > -6.5
