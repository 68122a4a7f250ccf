"""A toy environment, dataset and trainer, small enough to train for a few steps in every test."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import Checkpoint
from tensordict import TensorDict

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.data.description import DataDescription
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData
from pex_lightning.data.schedule import Interval
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec
from pex_lightning.handover import read_checkpoint
from web_server import serve, server

__all__ = ["serve", "server"]  # fixtures

ENV = "PexTiny-v0"
TIME_LIMIT = 5
OBS_DIM = 3
LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
ROWS = 200
OTHER_STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "OnlineAWAC": ("AWAC", {}),
    "OnlineCalQL": ("CalQL", {}),
    "WSRL": ("CalQL", {"num_q": 10, "layer_norm": True}),
    "Off2On": ("IQLEnsemble", {}),
}
"""The offline stages of methods that do not start from IQL's, and their settings."""


class TinyEnv(gymnasium.Env):
    """Observes (step / 10, episode / 100, last action's first number).

    The reward is the number of the step, so that every row says where it was collected.

    Args:
        terminates_after: Steps after which an episode terminates; 0 leaves it to the time limit.
        reports_success: Whether info says so.
    """

    def __init__(self, terminates_after: int = 0, reports_success: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-100, 100, (OBS_DIM,), np.float32)
        self.action_space = gymnasium.spaces.Box(np.float32(LOW), np.float32(HIGH))
        self.terminates_after, self.reports_success = terminates_after, reports_success
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.last = 0, 0.0
        self.episode += 1
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action, np.float32)), action
        self.steps, self.last = self.steps + 1, float(action[0])
        info = {"success": self.steps == 2} if self.reports_success else {}
        over = self.steps == self.terminates_after
        return self._observe(), float(self.steps), over, False, info

    def _observe(self) -> np.ndarray:
        return np.array([self.steps / 10, self.episode / 100, self.last], np.float32)


@pytest.fixture(scope="session", autouse=True)
def _tiny_env() -> Iterator[None]:
    torch.set_num_threads(1)
    gymnasium.register(ENV, entry_point=TinyEnv, max_episode_steps=TIME_LIMIT)
    yield
    gymnasium.registry.pop(ENV)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    # `seed_everything` writes these; they must not leak into the next test.
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    torch.manual_seed(0)


class StopAt(Callback):
    """Asks for an end, as Ctrl-C does, once `step` updates are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step >= self.step:
            trainer.should_stop = True


class Boundary(Callback):
    """Has chunks end at multiples of `every`, as an evaluation would, and calls `at`."""

    def __init__(self, every: int, at: Callable[[Trainer, Any], None] | None = None) -> None:
        self.every, self.at = every, at

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        trainer.datamodule.boundary = Interval(self.every)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, *args: Any, **kwargs: Any
    ) -> None:
        if self.at is not None:
            self.at(trainer, pl_module)


@dataclass
class Toy:
    """Builds the pieces of a run at toy size; every default can be replaced by keyword.

    Attributes:
        folder: A new folder for each test.
        dataset: NumPy archive in D4RL's layout.
        offline_path: Checkpoint of a few updates of IQL on it.
        before: Gives the same for a method that follows another offline stage, by its name.
    """

    folder: Path
    dataset: Path
    offline_path: Path | None
    before: Callable[[str], Path | None] | None = None

    env = ENV
    time_limit = TIME_LIMIT
    low, high = LOW, HIGH
    rows = ROWS
    StopAt = StopAt
    Boundary = Boundary

    def description(self, **spec: Any) -> DataDescription:
        fields = {
            "id": ENV,
            "kwargs": {},
            "obs_dim": OBS_DIM,
            "action_low": LOW,
            "action_high": HIGH,
            "max_episode_steps": TIME_LIMIT,
        }
        reward = spec.pop("reward", RewardTransform(shift=-1.0))
        return DataDescription(EnvSpec(**{**fields, **spec}), "tiny", "0" * 16, reward)

    def offline_data(self, **kwargs: Any) -> OfflineData:
        return OfflineData(**{**self._data_settings(), "chunk_size": 5, **kwargs})

    def online_data(self, **kwargs: Any) -> OnlineData:
        settings = {"start_steps": 10, "buffer_size": 1000, "chunk_size": 5}
        return OnlineData(**{**self._data_settings(), **settings, **kwargs})

    def algorithm(self, name: str, **kwargs: Any) -> Algorithm:
        """Ready to train: an online one is given the offline checkpoint."""
        module = ALGORITHMS[name](**{"hidden_dims": [8, 8], "actor_every": 1, **kwargs})
        path = self.offline_path if self.before is None else self.before(name) or self.offline_path
        if module.takes and path is not None:
            module.hand_over(read_checkpoint(path))
        return module

    def data_for(self, module: Algorithm, **kwargs: Any) -> OfflineData:
        return self.online_data(**kwargs) if module.acts else self.offline_data(**kwargs)

    def trainer(self, max_steps: int, callbacks: Any = (), **kwargs: Any) -> Trainer:
        saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
        settings = {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": saves,
            "default_root_dir": str(self.folder),
        }
        return Trainer(max_steps=max_steps, callbacks=list(callbacks), **{**settings, **kwargs})

    def fit(
        self,
        module: Algorithm,
        max_steps: int,
        data: OfflineData | None = None,
        resume: Path | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> Trainer:
        """Train and return the trainer."""
        seed_everything(seed, verbose=False)
        trainer = self.trainer(max_steps, **kwargs)
        path = None if resume is None else str(resume)
        data = self.data_for(module) if data is None else data
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
        return trainer

    def chunk(self, updates: int = 1, size: int = 16) -> TensorDict:
        """Random transitions `[updates, size]` in TED layout, a quarter terminated."""
        shape = (updates, size)
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        return TensorDict(
            {
                "observation": torch.randn(*shape, OBS_DIM),
                "action": low + (high - low) * torch.rand(*shape, 2),
                "next": {
                    "observation": torch.randn(*shape, OBS_DIM),
                    "reward": torch.randn(*shape, 1),
                    "terminated": torch.rand(*shape, 1) < 0.25,
                },
            },
            batch_size=shape,
        )

    def _data_settings(self) -> dict[str, Any]:
        return {
            "env": ENV,
            "path": str(self.dataset),
            "reward_transform": "subtract_one",
            "batch_size": 16,
        }


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random rows; an episode ends every tenth row, in turn by a terminal and by a time-out."""
    rng = np.random.default_rng(0)
    ends = np.arange(ROWS) % 10 == 9
    odd = np.arange(ROWS) // 10 % 2 == 1
    path = tmp_path_factory.mktemp("dataset") / "tiny.npz"
    # An HDF5 file is read by a process of its own, most of the time of a short run.
    np.savez(
        path,
        observations=rng.normal(size=(ROWS, OBS_DIM)).astype(np.float32),
        actions=rng.uniform(LOW, HIGH, size=(ROWS, 2)).astype(np.float32),
        rewards=rng.normal(size=ROWS).astype(np.float32),
        terminals=ends & odd,
        timeouts=ends & ~odd,
    )
    return path


@pytest.fixture(scope="session")
def tiny_offline(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of IQL after 20 updates."""
    return _offline("IQL", tiny_dataset, tmp_path_factory.mktemp("offline"))


@pytest.fixture(scope="session")
def tiny_before(
    tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path | None]:
    """Gives a checkpoint of 20 updates for a method that does not start from IQL's."""
    paths: dict[str, Path] = {}

    def before(method: str) -> Path | None:
        if method not in OTHER_STAGES:
            return None
        if method not in paths:
            name, settings = OTHER_STAGES[method]
            folder = tmp_path_factory.mktemp(method)
            paths[method] = _offline(name, tiny_dataset, folder, **settings)
        return paths[method]

    return before


def _offline(name: str, dataset: Path, folder: Path, **settings: Any) -> Path:
    toy = Toy(folder, dataset, None)
    environment = dict(os.environ)
    trainer = toy.fit(toy.algorithm(name, **settings), 20)
    os.environ.clear()
    os.environ.update(environment)
    path = folder / "offline.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def toy(
    tmp_path: Path,
    tiny_dataset: Path,
    tiny_offline: Path,
    tiny_before: Callable[[str], Path | None],
) -> Toy:
    """Builds the pieces of a run at toy size."""
    return Toy(tmp_path, tiny_dataset, tiny_offline, tiny_before)
