"""The online stage's data module: collector → replay buffer → half-offline chunks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

from pex_lightning.data.collection import frames
from pex_lightning.data.loader import ChunkLoader
from pex_lightning.data.offline import OfflineData, check_positive
from pex_lightning.data.online_statistics import OnlineStatistics
from pex_lightning.data.replay import online_buffer, sample_chunk
from pex_lightning.data.replay_store import Segment, read_segments, write_segment
from pex_lightning.errors import UserError
from pex_lightning.seeding import derive_seed, global_seed

_log = logging.getLogger(__name__)

MOST_FRAMES_AT_ONCE = 100
STORED_KEYS = ("observation", "action", "next", "policy_index", "choice_probs")


class OnlineData(OfflineData):
    """Steps the environment with the learner's acting policy and mixes what it collects.

    Before update g there are ``start_steps + g / updates_per_step`` environment steps, counted
    over all processes; each process has its own environment, replay buffer and random streams.

    Args:
        offline_fraction: Share of offline rows in every batch.
        start_steps: Environment steps before the first update.
        updates_per_step: Gradient steps for each environment step (UTD).
        buffer_size: Rows that the replay buffer of each process keeps.
        chunk_size: Gradient steps in one ``training_step``; the acting policy is at most this
            many updates behind the environment, 1 being the paper's alternation.
        kwargs: As for OfflineData.

    Raises:
        UserError: A value is outside of its range, or the dataset cannot be used.
    """

    def __init__(
        self,
        offline_fraction: float = 0.5,
        start_steps: int = 5_000,
        updates_per_step: float = 1.0,
        buffer_size: int = 1_000_000,
        chunk_size: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(chunk_size=chunk_size, **kwargs)
        if not 0.0 <= offline_fraction <= 1.0:
            raise UserError(
                f"--data.offline_fraction is {offline_fraction}; it must be between 0 and 1."
            )
        check_positive("updates_per_step", updates_per_step)
        check_positive("buffer_size", buffer_size)
        check_positive("start_steps", start_steps)
        self.offline_fraction = offline_fraction
        self.start_steps = start_steps
        self.updates_per_step = updates_per_step
        self.buffer_size = buffer_size
        self.statistics = OnlineStatistics()
        self._online: ReplayBuffer = online_buffer(buffer_size)
        self._frames: Iterator[TensorDictBase] | None = None
        self._collected = 0
        self._first = 0
        self._stored = 0
        self._store_folder: Path | None = None
        self._segments: list[Segment] = []
        self._manifest: list[list[dict[str, Any]]] = []

    @property
    def env_steps(self) -> int:
        """Environment steps collected so far, over all processes."""
        return self._collected * self._world_size

    @property
    def online_rows(self) -> int:
        """Rows in this process's replay buffer."""
        return len(self._online)

    def train_dataloader(self) -> ChunkLoader:
        """Chunks that mix the dataset with what is collected on the way."""
        trainer = self._bounded_trainer()
        module: Any = trainer.lightning_module
        env = self.describe().env
        if self._frames is not None:
            self._frames.close()  # type: ignore[attr-defined]
        self._frames = frames(
            module.acting_policy(),
            env.id,
            env.kwargs,
            seed=derive_seed("env", global_seed(), trainer.global_rank, self._collected),
            device=module.device,
        )
        self.statistics.new_environment()
        return ChunkLoader(self._chunk_or_stop, trainer, self.chunk_size, self.boundary)

    def teardown(self, stage: str) -> None:
        """Close the training environment."""
        del stage
        if self._frames is not None:
            self._frames.close()  # type: ignore[attr-defined]
            self._frames = None

    def save_replay(self, folder: Path) -> set[str]:
        """Write what was collected since the last call to ``folder``; every process calls it.

        Returns the names of the files that this process's buffer now consists of.
        """
        folder = folder / f"rank-{self._bounded_trainer().global_rank}"
        oldest = self._collected - len(self._online)
        if folder != self._store_folder:
            self._segments, self._stored, self._store_folder = [], oldest, folder
        start = max(self._stored, oldest)
        if start < self._collected:
            rows = self._online[self._places(start, self._collected)]
            self._segments.append(write_segment(folder, rows, start))
            self._stored = self._collected
        self._segments = [segment for segment in self._segments if segment.stop > oldest]
        mine = [segment.to_dict() for segment in self._segments]
        self._manifest = _gather(mine, self._world_size)
        return {segment.file for segment in self._segments}

    def state_dict(self) -> dict[str, Any]:
        """Counters, and which files hold the replay buffer as :meth:`save_replay` wrote it."""
        current = self._stored == self._collected
        return {
            "collected": self._collected,
            "replay": self._manifest if current else None,
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill the replay buffer from the files beside the checkpoint.

        Raises:
            UserError: The files are not there, or were written by another number of processes.
        """
        trainer = self.trainer
        assert trainer is not None
        manifest, path = state_dict["replay"], trainer.ckpt_path
        if manifest is None or path is None:
            raise UserError(
                f"{path} was saved without its replay buffer, so training cannot go on from it. "
                "Resume from last.ckpt or best.ckpt of the run."
            )
        if len(manifest) != self._world_size:
            raise UserError(
                f"{path} was written by {len(manifest)} process(es), this run has "
                f"{self._world_size}. Resume with --trainer.devices {len(manifest)}."
            )
        folder = Path(path).parent / "replay" / f"rank-{trainer.global_rank}"
        segments = [Segment.from_dict(raw) for raw in manifest[trainer.global_rank]]
        rows = read_segments(folder, segments)
        collected = int(state_dict["collected"])
        self._online = online_buffer(self.buffer_size)
        if rows is not None:
            self._online.extend(rows[-self.buffer_size :])
        self._first = collected - len(self._online)
        self._collected = self._stored = collected
        self._store_folder, self._segments, self._manifest = folder, segments, manifest
        self.statistics.load_state_dict(state_dict["statistics"])
        _log.info(
            f"Resumed with {len(self._online):,} rows in the replay buffer; the interrupted "
            "episode is dropped and a new one starts."
        )

    def _places(self, start: int, stop: int) -> torch.Tensor:
        """Where rows ``start`` to ``stop`` of everything collected lie in the buffer."""
        return (torch.arange(start, stop) - self._first) % self.buffer_size

    def _chunk_or_stop(self, step: int, updates: int) -> TensorDictBase | None:
        if not self._collect_until(self._steps_needed(step + updates)):
            return None
        return sample_chunk(
            self._buffer(),
            self._online,
            updates=updates,
            batch_size=self.batch_size,
            offline_fraction=self.offline_fraction,
            seed=self._chunk_seed(step),
        )

    def _steps_needed(self, updates: int) -> int:
        """This process's share of the environment steps due before update ``updates`` is done."""
        trainer = self._bounded_trainer()
        start = 1 if trainer.fast_dev_run else self.start_steps  # type: ignore[attr-defined]
        return math.ceil((start + updates / self.updates_per_step) / self._world_size)

    def _collect_until(self, needed: int) -> bool:
        """Step the environment; whether it was done, rather than interrupted."""
        assert self._frames is not None
        assert self._description is not None
        trainer = self._bounded_trainer()
        reward_key = ("next", "reward")
        if needed - self._collected > 1_000:
            _log.info(
                f"Collecting {needed - self._collected:,} environment steps before the next update"
            )
        while self._collected < needed:
            if trainer.should_stop and self._world_size == 1:
                return False
            # Not more than the buffer holds: a batch must not write the same place twice.
            count = min(needed - self._collected, self.buffer_size, MOST_FRAMES_AT_ONCE)
            batch: TensorDictBase = torch.cat([next(self._frames) for _ in range(count)])
            self.statistics.add(batch)
            batch.set(reward_key, self._description.reward(batch.get(reward_key)))
            self._online.extend(batch.select(*STORED_KEYS))
            self._collected += count
        return True

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size


def _gather(mine: list[dict[str, Any]], world_size: int) -> list[list[dict[str, Any]]]:
    if world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone
