"""The online stage's data module: collector → replay buffer → half-offline chunks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer

from pex_lightning.collection.begin import begin_collection
from pex_lightning.collection.local import Collection, EnvFrames, collected
from pex_lightning.collection.statistics import OnlineStatistics
from pex_lightning.data.loader import ChunkLoader
from pex_lightning.data.mixing import Mix, Mixing
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.ranks import gathered
from pex_lightning.data.schedule import Alternation, OfflineShare, chunk_updates, unwatched
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import check_range, in_one_line
from pex_lightning.replay.layout import RowSizes
from pex_lightning.replay.mix import online_buffer
from pex_lightning.replay.store import (
    Segment,
    check_processes,
    damaged,
    read_manifest,
    read_segments,
    write_segment,
)
from pex_lightning.seeding import derive_seed, global_seed

_log = logging.getLogger(__name__)

MOST_FRAMES_AT_ONCE = 100
STORED_KEYS = ("observation", "action", "next", "policy_index", "choice_probs")


class OnlineData(OfflineData):
    """Steps the environment with the learner's acting policy and mixes what it collects.

    Before update g there are `start_steps + max(0, g - initial_updates) / updates_per_step`
    environment steps of all processes, each with its own environments, buffer and random streams.

    Args:
        offline_fraction: Share of offline rows in every batch; with `mix` `balanced`, in the first.
        offline_fraction_end: Where that share goes linearly; by default it stays.
        offline_fraction_steps: Gradient steps on the way there.
        start_steps: Environment steps before the first update.
        updates_per_step: Gradient steps for each environment step (UTD).
        buffer_size: Rows that the replay buffer of each process keeps.
        chunk_size: Gradient steps in one `training_step`, before which the environment steps due
            in it are taken, by a policy at most `chunk_size - 1` updates older than if steps and
            updates took turns; 1 is the paper's alternation.
        num_collectors: Processes, for each process of the learner, that step an environment each
            while the learner updates. They collect for the next chunk during this one, so a
            step's policy is at most `2 * chunk_size - 1` updates older than in turns. The same
            seed and number give the same run. 0 steps one environment in the learner's process,
            between chunks. A script that asks for processes has to start its work under
            `if __name__ == "__main__":`, as each of them imports the script.
        mix: `fixed` shares every batch by `offline_fraction`; `balanced` draws offline rows the
            more often the more they resemble what is collected, see `BalancedReplay`.
        initial_updates: Gradient steps before the environment is stepped beyond `start_steps`.
        max_env_steps: Environment steps, with the first `start_steps`, that end the stage, unless
            `trainer.max_steps`, for which `fit` and `train` take -1 as no limit, ends it before.
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
        chunk_size: int = 20,
        num_collectors: int = 0,
        offline_fraction_end: float | None = None,
        offline_fraction_steps: int = 0,
        mix: Mix = "fixed",
        initial_updates: int = 0,
        max_env_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(chunk_size=chunk_size, **kwargs)
        share = OfflineShare(offline_fraction, offline_fraction_end, offline_fraction_steps)
        check_range("--data.buffer_size", buffer_size, buffer_size > 0, "above 0")
        check_range("--data.num_collectors", num_collectors, num_collectors >= 0, "0 or more")
        self._mixing = Mixing(mix, share)
        self.alternation = Alternation(
            start_steps, initial_updates, updates_per_step, max_env_steps
        )
        self.buffer_size = buffer_size
        self.num_collectors = num_collectors
        self.statistics = OnlineStatistics()
        self.watch: Callable[[int, int], None] = unwatched
        self._online: ReplayBuffer = online_buffer(buffer_size)
        self._collection: Collection | None = None
        self._collected = self._under_way = self._first = self._stored = 0
        self._store_folder: Path | None = None
        self._segments: list[Segment] = []
        self._manifest: list[list[dict[str, Any]]] = []
        self._mix_states: list[dict[str, Any] | None] = []

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
        self._pace().check_end(trainer.max_steps)
        self._close_collection()
        self._begin_mixing()
        self._collection = self._new_collection(trainer)
        return ChunkLoader(self._chunk_or_stop, trainer, self.chunk_size, self.boundary)

    def teardown(self, stage: str) -> None:
        """Close the training environments."""
        self._close_collection()

    def on_exception(self, exception: BaseException) -> None:
        """Close the training environments; Lightning calls no `teardown` after an error."""
        self._close_collection()

    def save_replay(self, folder: Path) -> set[str]:
        """Write what was collected since the last call to `folder`; every process calls it.

        Returns the names of the files that this process's buffer now consists of.
        """
        folder = folder / f"rank-{self._bounded_trainer().global_rank}"
        oldest = self._collected - len(self._online)
        if folder != self._store_folder:
            self._segments, self._stored, self._store_folder = [], oldest, folder
        start = max(self._stored, oldest)
        if start < self._collected:
            rows = self._online[self._places(start, self._collected)]
            self._segments.append(write_segment(folder, rows, start, self._row_sizes()))
            self._stored = self._collected
        self._segments = [segment for segment in self._segments if segment.stop > oldest]
        mine = [segment.to_dict() for segment in self._segments]
        self._manifest = gathered(mine, self._world_size)
        mix = self._mixing.state(self._places(oldest, self._collected))
        self._mix_states = gathered(mix, self._world_size)
        return {segment.file for segment in self._segments}

    @property
    def steps_environment(self) -> bool:
        """True."""
        return True

    def take_statistics(self) -> Mapping[str, float]:
        """Means since the last call; see `OnlineStatistics.take`."""
        return self.statistics.take()

    def recent_shares(self) -> Mapping[str, float]:
        """How often each member acted, as an exponential mean over about 1,000 frames."""
        return self.statistics.recent_shares()

    def run_state(self) -> dict[str, Any]:
        """Counters, and which files hold the replay buffer as `save_replay` wrote it."""
        current = self._stored == self._collected
        return {
            "collected": self._collected,
            "replay": self._manifest if current else None,
            "mix": self._mix_states if current else None,
            "statistics": self.statistics.state_dict(),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Fill the replay buffer from the files beside the checkpoint.

        Raises:
            UserError: The files are not there, are damaged, or were written by another number of
                processes.
        """
        trainer = self.trainer
        assert trainer is not None
        path = Path(str(trainer.ckpt_path))
        manifest = read_manifest(state, path)
        check_processes(manifest, self._world_size, path)
        folder = path.parent / "replay" / f"rank-{trainer.global_rank}"
        segments = manifest[trainer.global_rank]
        rows = read_segments(folder, segments, self._row_sizes())
        collected = state["collected"]
        try:
            self.statistics.load_state_dict(state["statistics"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"its statistics cannot be read ({in_one_line(error)})") from error
        self._online = online_buffer(self.buffer_size)
        if rows is not None:
            self._online.extend(rows[-self.buffer_size :])
        self._begin_mixing()
        self._mixing.load(state.get("mix"), trainer.global_rank, len(self._online), path)
        self._first = collected - len(self._online)
        self._collected = self._stored = collected
        self._store_folder, self._segments = folder, segments
        self._manifest = [[part.to_dict() for part in parts] for parts in manifest]
        _log.info(
            f"Resumed with {len(self._online):,} rows in the replay buffer; the interrupted "
            "episode is dropped and a new one starts."
        )

    def _begin_mixing(self) -> None:
        trainer = self._bounded_trainer()
        seed = derive_seed("mix", global_seed(), trainer.global_rank)
        device = trainer.strategy.root_device
        self._mixing.begin(self._buffer(), self.buffer_size, self.batch_size, seed, device)

    def _places(self, start: int, stop: int) -> torch.Tensor:
        """Where rows `start` to `stop` of everything collected lie in the buffer."""
        return (torch.arange(start, stop) - self._first) % self.buffer_size

    def _chunk_or_stop(self, step: int, updates: int) -> TensorDictBase | None:
        if not self._collect_until(self._steps_needed(step + updates)):
            return None
        self._request_for_chunk_at(step + updates)
        return self._mixing.draw(self._online, step, updates, self._chunk_seed(step))

    def _steps_needed(self, updates: int) -> int:
        """This process's share of the environment steps due before update `updates` is done."""
        return math.ceil(self._pace().env_steps(updates) / self._world_size)

    def _pace(self) -> Alternation:
        trial: bool = self._bounded_trainer().fast_dev_run  # type: ignore[attr-defined]
        return self.alternation.of_a_trial() if trial else self.alternation

    def _collect_until(self, needed: int) -> bool:
        """Step the environment; whether it was done, rather than interrupted."""
        assert self._collection is not None
        trainer = self._bounded_trainer()
        watch = self.watch if needed - self._collected > 1_000 else unwatched
        while self._collected < needed:
            if trainer.should_stop and self._world_size == 1:
                return False
            watch(self._collected, needed)
            count = self._under_way or min(needed - self._collected, self._most_at_once)
            self._under_way = 0
            self._keep(collected(self._collection, count, self.describe().env.id))
        return True

    def _request_for_chunk_at(self, step: int) -> None:
        """Have the frames that the next chunk needs collected while this one is learnt from."""
        assert self._collection is not None
        trainer = self._bounded_trainer()
        updates = chunk_updates(step, trainer.max_steps, self.chunk_size, self.boundary)
        if updates > 0:
            # None where a resumed run needs fewer than it has, having a larger updates_per_step.
            due = max(0, self._steps_needed(step + updates) - self._collected)
            self._under_way = self._collection.request(min(due, self._most_at_once))

    def _keep(self, parts: list[EnvFrames]) -> None:
        """Put frames into the replay buffer, with the reward that is learnt from."""
        assert self._description is not None
        for part in parts:
            self.statistics.add(part.frames, part.environment)
        frames = [part.frames.select(*STORED_KEYS) for part in parts]
        rows: TensorDictBase = frames[0] if len(frames) == 1 else torch.cat(frames)
        key = ("next", "reward")
        rows.set(key, self._description.reward(rows.get(key)))
        self._online.extend(rows)
        self._mixing.added(self._places(self._collected, self._collected + rows.shape[0]))
        self._collected += rows.shape[0]
        module: Any = self._bounded_trainer().lightning_module
        module.on_episodes(self.statistics.take_episodes())

    def _new_collection(self, trainer: Trainer) -> Collection:
        module: Any = trainer.lightning_module
        env = self.describe().env
        seed = derive_seed("env", global_seed(), trainer.global_rank, self._collected)
        self.statistics.begin(module.acting_policy().members)
        return begin_collection(
            module,
            EnvFactory.of(env.id, env.kwargs),
            num_collectors=self.num_collectors,
            seed=seed,
            collected=self._collected,
        )

    def _close_collection(self) -> None:
        self._under_way = 0
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    def _row_sizes(self) -> RowSizes:
        module: Any = self._bounded_trainer().lightning_module
        return RowSizes.of(self.describe().env, module.acting_policy().members)

    @property
    def _most_at_once(self) -> int:
        """Not more than the buffer holds: a batch must not write the same place twice."""
        return min(self.buffer_size, MOST_FRAMES_AT_ONCE)

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size
