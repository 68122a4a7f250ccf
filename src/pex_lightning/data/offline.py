"""The offline stage's data module: a dataset, sampled in chunks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pytorch_lightning import LightningDataModule, Trainer
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

from pex_lightning.data.description import DataDescription
from pex_lightning.data.loader import ChunkLoader
from pex_lightning.data.schedule import Interval
from pex_lightning.data.sources import DataSource, SourceName, choose_source
from pex_lightning.datasets.dataset import DatasetInfo
from pex_lightning.datasets.rewards import RewardTransformName, make_reward_transform
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.errors import UserError, check_range
from pex_lightning.processes import refuse_a_second_run
from pex_lightning.replay.mix import dataset_buffer, sample_chunk
from pex_lightning.seeding import derive_seed, global_seed

_log = logging.getLogger(__name__)
_CHOICE = ("source", "path", "dataset", "rows", "dataset_seed", "mirrors", "cache_dir")


class OfflineData(LightningDataModule):
    """Transitions of a dataset, drawn uniformly.

    Args:
        env: Id of the environment that the policy acts in; by default the one that the data are
            from, where they say it (`make`, `d4rl`, `minari`).
        env_kwargs: Arguments of the environment.
        source: `file` reads `path`; `make` lets the package record `dataset` by itself,
            once; `d4rl` fetches D4RL's published `dataset`, once; `minari` takes the Minari
            dataset whose id is `dataset`, from this machine or from Minari's host.
        path: HDF5 file in D4RL's layout, or `minari:ID`. If it is given it is what is read,
            whatever `source` says.
        dataset: Name of the recipe (`make`), of the task (`d4rl`), or id (`minari`).
        rows: Rows to record, for `source: make`; the recipe's own number by default.
        dataset_seed: Seed of the recording, for `source: make`.
        mirrors: Addresses to fetch D4RL's files from, for `source: d4rl`.
        cache_dir: Folder in which made and fetched files are kept; by default
            `$XDG_CACHE_HOME/pex-lightning`, and for D4RL's files `$D4RL_DATASET_DIR`.
        reward_transform: Applied to offline and online rewards alike: `subtract_one` for
            AntMaze, `scale_by_return_range` for MuJoCo. Evaluation reports raw returns.
        batch_size: Transitions in a gradient step (on each device).
        chunk_size: Gradient steps in one `training_step`.

    Raises:
        UserError: A value is outside of its range, or the dataset cannot be used.
    """

    def __init__(
        self,
        env: str | None = None,
        env_kwargs: dict[str, Any] | None = None,
        source: SourceName = "file",
        path: str | None = None,
        dataset: str | None = None,
        rows: int | None = None,
        dataset_seed: int = 0,
        mirrors: list[str] | None = None,
        cache_dir: str | None = None,
        reward_transform: RewardTransformName = "identity",
        batch_size: int = 256,
        chunk_size: int = 20,
    ) -> None:
        super().__init__()
        check_range("--data.batch_size", batch_size, batch_size > 0, "above 0")
        check_range("--data.chunk_size", chunk_size, chunk_size > 0, "above 0")
        if rows is not None:
            check_range("--data.rows", rows, rows > 0, "above 0")
        self.env = env
        self.env_kwargs: Mapping[str, Any] = env_kwargs or {}
        self._choice: dict[str, Any] = {
            "source": source,
            "path": path,
            "dataset": dataset,
            "rows": rows,
            "seed": dataset_seed,
            "mirrors": mirrors,
            "cache_dir": cache_dir,
        }
        self._source: DataSource | None = None
        self._spec: EnvSpec | None = None
        self.reward_transform: RewardTransformName = reward_transform
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.boundary: Interval | None = None
        self._offline: ReplayBuffer | None = None
        self._description: DataDescription | None = None
        self._info: DatasetInfo | None = None
        self._shared: OfflineData | None = None

    @classmethod
    def of(cls, source: DataSource, /, **kwargs: Any) -> Self:
        """A data module over data that are at hand, such as `Arrays`.

        Args:
            source: The data.
            kwargs: As for the constructor, without what chooses a source.
        """
        chosen = sorted(set(kwargs) & set(_CHOICE))
        if chosen:
            raise UserError(f"{', '.join(chosen)}: the data are given; leave these out.")
        data = cls(**kwargs)
        data._source = source
        return data

    def prepare_data(self) -> None:
        """Fetch or make the dataset if it is to be; of several processes one does, others wait."""
        refuse_a_second_run()
        if self._shared is not None:
            self._shared.prepare_data()
        elif self._offline is None:
            source = self._data_source()
            if self.env is not None:
                # A wrong one is refused before minutes are spent on the data.
                self._environment(source)
            source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read and check the dataset.

        Raises:
            UserError: It cannot be read, or does not fit the environment.
        """
        if self._offline is not None:
            return
        if self._shared is not None:
            self._shared.setup()
            self._offline, self._info = self._shared._buffer(), self._shared.info
            self._description = self._shared.describe()
            return
        source = self._data_source()
        spec = self._environment(source)
        data = source.read(spec)
        transform = make_reward_transform(self.reward_transform, data.episode_returns)
        data.transitions.transform_rewards_(transform)
        self._offline = dataset_buffer(data.transitions)
        self._info = data.info
        self._description = DataDescription(
            spec, data.info.name, data.info.fingerprint, transform, data.info.origin
        )
        _announce(data.info, (*data.info.remarks, *source.notes()))

    def describe(self) -> DataDescription:
        """What these data are; only after `setup`."""
        assert self._description is not None, "describe() before setup()"
        return self._description

    @property
    def info(self) -> DatasetInfo:
        """Where the transitions come from; only after `setup`."""
        assert self._info is not None, "info before setup()"
        return self._info

    @property
    def steps_environment(self) -> bool:
        """False: the dataset is all there is."""
        return False

    @property
    def env_steps(self) -> int:
        """No environment is stepped."""
        return 0

    def take_statistics(self) -> Mapping[str, float]:
        """Nothing is collected."""
        return {}

    def recent_shares(self) -> Mapping[str, float]:
        """Nobody acts."""
        return {}

    def save_replay(self, folder: Path) -> set[str]:
        """Nothing has to be kept."""
        return set()

    def run_state(self) -> dict[str, Any] | None:
        """What a chunk holds depends on seed and step alone."""
        return None

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """There is none; a stage that collects has one.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"{self._bounded_trainer().ckpt_path} is of a run that stepped an environment, so it "
            f"cannot go on with {type(self).__name__}. Use --data OnlineData."
        )

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

    def _data_source(self) -> DataSource:
        if self._source is None:
            self._source = choose_source(**self._choice)
        return self._source

    def _environment(self, source: DataSource) -> EnvSpec:
        """The environment that the user names, else the data's own; a file is asked for it once."""
        if self._spec is None:
            self._spec = self._environment_of(source)
        return self._spec

    def _environment_of(self, source: DataSource) -> EnvSpec:
        if self.env is not None:
            spec = env_spec(self.env, self.env_kwargs)
            _check_maze(spec, source)
            return spec
        recorded_in = source.environment()
        if recorded_in is None:
            raise UserError(
                "the data do not say which environment they are from: give --data.env ID, and its "
                "arguments under --data.env_kwargs."
            )
        env_id, env_kwargs = recorded_in
        return env_spec(env_id, {**env_kwargs, **self.env_kwargs})


def _check_maze(spec: EnvSpec, source: DataSource) -> None:
    """Refuse one maze of ours on data of another: their sizes are equal, nothing else tells."""
    try:
        recorded_in = source.environment()
    except UserError:
        return
    ours = "pex_lightning/"
    if recorded_in is None or not (spec.id.startswith(ours) and recorded_in[0].startswith(ours)):
        return
    if spec.id != recorded_in[0]:
        raise UserError(
            f"--data.env is {spec.id}, but the data are from {recorded_in[0]}. Give --data.env "
            f"{recorded_in[0]}, or --data.env null, which takes the data's own."
        )


def _announce(info: DatasetInfo, notes: tuple[str, ...]) -> None:
    """Say once what is learnt from."""
    _log.info(
        f"Dataset {info.name}: {info.transitions:,} transitions of {info.rows:,} rows, "
        f"{info.episodes:,} episodes, fingerprint {info.fingerprint}"
    )
    for note in notes:
        _log.info(f"Note: {note}")
