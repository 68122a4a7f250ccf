"""Recording of episodes in parallel processes, with results independent of their number."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator

import numpy as np

from pex_lightning.errors import check_range
from pex_lightning.processes import Worker, Workers, that_answered
from pex_lightning.recording.antmaze import AntMazeRecorder
from pex_lightning.recording.episode import Columns
from pex_lightning.recording.halfcheetah import HalfCheetahRecorder
from pex_lightning.recording.pointmaze import PointMazeRecorder
from pex_lightning.recording.recipes import HalfCheetahRecipe, PointMazeRecipe, Recipe

_EPISODES_PER_PROCESS = 4
_AHEAD_PER_WORKER = 4
_UNDER_WAY_PER_WORKER = 2

Recorder = AntMazeRecorder | HalfCheetahRecorder | PointMazeRecorder


def record_episodes(
    recipe: Recipe, *, rows: int, seed: int, workers: int | None = None
) -> Generator[Columns, None, None]:
    """Record the episodes of a dataset in order; the last one ends after `rows` rows in total.

    Episode i depends only on the recipe, the seed and i. Processes are spawned, not forked, so a
    calling script needs an `if __name__ == "__main__":`. They ignore Ctrl-C, which this process
    handles, and end with this process.

    Args:
        recipe: The recipe.
        rows: Number of rows.
        seed: Random seed.
        workers: Number of processes; 1 records in this process. By default one per available
            processor, fewer for few episodes.

    Raises:
        UserError: A process ended unexpectedly, or `workers` is below 1.
    """
    length = recipe.episode_rows
    sizes = [min(length, rows - first) for first in range(0, rows, length)]
    count = _workers_for(recipe, len(sizes)) if workers is None else min(workers, len(sizes))
    check_range("workers", workers, count >= 1, "1 or more")
    if count == 1:
        yield from _record_here(recipe, sizes, seed)
    else:
        yield from _record_there(recipe, sizes, seed, count)


def _workers_for(recipe: Recipe, episodes: int) -> int:
    if isinstance(recipe, PointMazeRecipe):
        # Recording takes less time than starting processes.
        return 1
    with contextlib.suppress(AttributeError):
        return max(1, min(len(os.sched_getaffinity(0)), episodes // _EPISODES_PER_PROCESS))
    return max(1, min(os.cpu_count() or 1, episodes // _EPISODES_PER_PROCESS))


def _recorder(recipe: Recipe) -> Recorder:
    if isinstance(recipe, PointMazeRecipe):
        return PointMazeRecorder(recipe)
    if isinstance(recipe, HalfCheetahRecipe):
        return HalfCheetahRecorder(recipe)
    return AntMazeRecorder(recipe)


def _generator(seed: int, episode: int) -> np.random.Generator:
    # One generator per episode, so that a longer dataset starts with the rows of a shorter one.
    return np.random.default_rng((seed, episode))


def _record_here(recipe: Recipe, sizes: list[int], seed: int) -> Generator[Columns, None, None]:
    with contextlib.closing(_recorder(recipe)) as recorder:
        for episode, size in enumerate(sizes):
            yield recorder.record(_generator(seed, episode), size)


def _record_there(
    recipe: Recipe, sizes: list[int], seed: int, count: int
) -> Generator[Columns, None, None]:
    workers = Workers()
    try:
        under_way: dict[Worker, deque[int]] = {
            workers.start(
                _RecorderProcess, recipe, seed, name="recording: a process", fewer="workers"
            ): deque()
            for _ in range(count)
        }
        done: dict[int, Columns] = {}
        asked = taken = 0
        while taken < len(sizes):
            for worker, episodes in under_way.items():
                # Limited, because finished episodes stay in memory until the caller takes them.
                ahead = min(len(sizes), taken + count * _AHEAD_PER_WORKER)
                while len(episodes) < _UNDER_WAY_PER_WORKER and asked < ahead:
                    worker.send((asked, sizes[asked]))
                    episodes.append(asked)
                    asked += 1
            for worker in that_answered(w for w, episodes in under_way.items() if episodes):
                done[under_way[worker].popleft()] = worker.receive()
            while taken in done:
                yield done.pop(taken)
                taken += 1
    except BaseException:
        # The caller closed this generator, or an episode failed.
        workers.abort()
        raise
    finally:
        workers.stop()


class _RecorderProcess:
    """Runs in a worker process and records the episode of a given index and number of rows."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recorder = _recorder(recipe)
        self._seed = seed

    def __call__(self, task: tuple[int, int]) -> Columns:
        episode, rows = task
        return self._recorder.record(_generator(self._seed, episode), rows)

    def close(self) -> None:
        self._recorder.close()
