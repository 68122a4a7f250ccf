"""The offline stage's data module: a dataset, sampled in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningDataModule, Trainer
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

from pex_lightning.data.d4rl import read_d4rl
from pex_lightning.data.description import DataDescription
from pex_lightning.data.generate import RECIPES, cached_dataset
from pex_lightning.data.loader import ChunkLoader
from pex_lightning.data.replay import dataset_buffer, sample_chunk
from pex_lightning.data.rewards import RewardTransformName, make_reward_transform
from pex_lightning.data.transitions import DatasetInfo
from pex_lightning.envs.make import env_spec
from pex_lightning.errors import UserError
from pex_lightning.seeding import derive_seed, global_seed


class OfflineData(LightningDataModule):
    """Transitions of a dataset, drawn uniformly.

    Args:
        env: Id of the environment that the data are from; evaluation runs in it.
        env_kwargs: Arguments of the environment.
        source: ``file`` reads ``path``; ``make`` lets the package record ``dataset`` by itself,
            once, and keeps it in the cache folder.
        path: HDF5 file in D4RL's layout, for ``source: file``.
        dataset: Name of the recipe, for ``source: make``.
        rows: Rows to record, for ``source: make``; the recipe's own number by default.
        dataset_seed: Seed of the recording, for ``source: make``.
        reward_transform: Applied to offline and online rewards alike: ``subtract_one`` for
            AntMaze, ``scale_by_return_range`` for MuJoCo. Evaluation reports raw returns.
        batch_size: Transitions in a gradient step (on each device).
        chunk_size: Gradient steps in one ``training_step``.

    Raises:
        UserError: A value is outside of its range, or the dataset cannot be used.
    """

    def __init__(
        self,
        env: str,
        env_kwargs: dict[str, Any] | None = None,
        source: Literal["file", "make"] = "file",
        path: str | None = None,
        dataset: str | None = None,
        rows: int | None = None,
        dataset_seed: int = 0,
        reward_transform: RewardTransformName = "identity",
        batch_size: int = 256,
        chunk_size: int = 20,
    ) -> None:
        super().__init__()
        check_positive("batch_size", batch_size)
        check_positive("chunk_size", chunk_size)
        if rows is not None:
            check_positive("rows", rows)
        self.env = env
        self.env_kwargs: Mapping[str, Any] = env_kwargs or {}
        self.source = source
        self.path = path
        self.dataset = dataset
        self.rows = rows
        self.dataset_seed = dataset_seed
        self.reward_transform: RewardTransformName = reward_transform
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.boundary: int | None = None
        self._offline: ReplayBuffer | None = None
        self._description: DataDescription | None = None
        self._info: DatasetInfo | None = None
        self._shared: OfflineData | None = None

    def prepare_data(self) -> None:
        """Make the dataset if it is to be made (on one process of each machine)."""
        if self._shared is None and self._offline is None:
            self._dataset_path()

    def setup(self, stage: str | None = None) -> None:
        """Read and check the dataset.

        Raises:
            UserError: It cannot be read, or does not fit the environment.
        """
        del stage
        if self._offline is not None:
            return
        if self._shared is not None:
            self._shared.setup()
            self._offline, self._info = self._shared._buffer(), self._shared.info
            self._description = self._shared.describe()
            return
        spec = env_spec(self.env, self.env_kwargs)
        data = read_d4rl(self._dataset_path(), spec=spec)
        transform = make_reward_transform(self.reward_transform, data.episode_returns)
        reward = data.transitions.reward
        reward.copy_(transform(reward))
        self._offline = dataset_buffer(data.transitions.tensordict)
        self._info = data.info
        self._description = DataDescription(spec, data.info.name, data.info.fingerprint, transform)

    def describe(self) -> DataDescription:
        """What these data are; only after :meth:`setup`."""
        assert self._description is not None, "describe() before setup()"
        return self._description

    @property
    def info(self) -> DatasetInfo:
        """Where the transitions come from; only after :meth:`setup`."""
        assert self._info is not None, "info before setup()"
        return self._info

    def offline_stage(self) -> OfflineData:
        """The same dataset for a stage of its own; it is read once."""
        other = OfflineData(
            env=self.env,
            env_kwargs=dict(self.env_kwargs),
            reward_transform=self.reward_transform,
            batch_size=self.batch_size,
        )
        other._shared = self
        return other

    def train_dataloader(self) -> ChunkLoader:
        """Chunks of the dataset."""
        trainer = self._bounded_trainer()
        return ChunkLoader(self._chunk, trainer, self.chunk_size, self.boundary)

    def _chunk(self, step: int, updates: int) -> TensorDictBase:
        return sample_chunk(
            self._buffer(),
            None,
            updates=updates,
            batch_size=self.batch_size,
            offline_fraction=1.0,
            seed=self._chunk_seed(step),
        )

    def _chunk_seed(self, step: int) -> int:
        trainer = self._bounded_trainer()
        return derive_seed("chunk", global_seed(), trainer.global_rank, step)

    def _buffer(self) -> ReplayBuffer:
        assert self._offline is not None, "sampling before setup()"
        return self._offline

    def _bounded_trainer(self) -> Trainer:
        trainer = self.trainer
        assert trainer is not None, "a data module is sampled by a trainer"
        if trainer.max_steps <= 0:
            raise UserError(
                f"--trainer.max_steps is {trainer.max_steps}; give the number of gradient steps."
            )
        return trainer

    def _dataset_path(self) -> Path:
        if self.source == "make":
            if self.dataset is None:
                raise UserError(
                    "--data.source make needs --data.dataset, the name of what to make: "
                    f"{', '.join(sorted(RECIPES))}."
                )
            return cached_dataset(self.dataset, rows=self.rows, seed=self.dataset_seed)
        if self.path is None:
            raise UserError(
                "no dataset: give --data.path FILE.hdf5, a file in D4RL's layout with the keys "
                "observations, actions, rewards, terminals and timeouts. To try the package "
                "without one, run: pex-lightning fit --config conf/pointmaze.yaml"
            )
        return Path(self.path)


def check_positive(name: str, value: float) -> None:
    """Refuse a setting of the data module that is not above 0.

    Raises:
        UserError: Names the flag.
    """
    if value <= 0:
        raise UserError(f"--data.{name} is {value}; it must be above 0.")
