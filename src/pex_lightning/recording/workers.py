"""Episodes recorded in several processes; which process records one does not show in it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator

import numpy as np

from pex_lightning.errors import check_range
from pex_lightning.processes import Worker, Workers, that_answered
from pex_lightning.recording.antmaze import AntMazeRecorder
from pex_lightning.recording.episode import Episode
from pex_lightning.recording.pointmaze import PointMazeRecorder
from pex_lightning.recording.recipes import PointMazeRecipe, Recipe

_EPISODES_PER_PROCESS = 4
_AHEAD_PER_WORKER = 4
_UNDER_WAY_PER_WORKER = 2

Recorder = AntMazeRecorder | PointMazeRecorder


def record_episodes(
    recipe: Recipe, *, rows: int, seed: int, workers: int | None = None
) -> Generator[Episode, None, None]:
    """Record the episodes of a dataset, in order; the last is cut off at `rows` rows in all.

    Episode i depends on the recipe, the seed and i alone: on neither the number of rows nor that
    of processes. Processes are started and not forked, so a script that calls this has to have
    its `if __name__ == "__main__":`. They leave Ctrl-C to this process and end when it ends.

    Args:
        recipe: The recipe.
        rows: Number of rows.
        seed: Seed of everything random.
        workers: Number of processes; 1 records in this process. None takes one for each processor
            that this process may use, where there is enough to do.

    Raises:
        UserError: A process ended without an answer, or the number of them is below 1.
    """
    length = recipe.episode_steps + 1
    sizes = [min(length, rows - first) for first in range(0, rows, length)]
    count = _workers_for(recipe, len(sizes)) if workers is None else min(workers, len(sizes))
    check_range("workers", workers, count >= 1, "1 or more")
    if count == 1:
        yield from _record_here(recipe, sizes, seed)
    else:
        yield from _record_there(recipe, sizes, seed, count)


def _workers_for(recipe: Recipe, episodes: int) -> int:
    if isinstance(recipe, PointMazeRecipe):
        # Done before other processes would have started.
        return 1
    with contextlib.suppress(AttributeError):
        return max(1, min(len(os.sched_getaffinity(0)), episodes // _EPISODES_PER_PROCESS))
    return max(1, min(os.cpu_count() or 1, episodes // _EPISODES_PER_PROCESS))


def _recorder(recipe: Recipe) -> Recorder:
    if isinstance(recipe, PointMazeRecipe):
        return PointMazeRecorder(recipe)
    return AntMazeRecorder(recipe)


def _generator(seed: int, episode: int) -> np.random.Generator:
    # One per episode: a longer dataset begins with the rows of a shorter one.
    return np.random.default_rng((seed, episode))


def _record_here(recipe: Recipe, sizes: list[int], seed: int) -> Generator[Episode, None, None]:
    with contextlib.closing(_recorder(recipe)) as recorder:
        for episode, size in enumerate(sizes):
            yield recorder.record(_generator(seed, episode), size)


def _record_there(
    recipe: Recipe, sizes: list[int], seed: int, count: int
) -> Generator[Episode, None, None]:
    workers = Workers()
    try:
        under_way: dict[Worker, deque[int]] = {
            workers.start(
                _RecorderProcess, recipe, seed, name="recording: a process", fewer="workers"
            ): deque()
            for _ in range(count)
        }
        done: dict[int, Episode] = {}
        asked = taken = 0
        while taken < len(sizes):
            for worker, episodes in under_way.items():
                # Few at a time: episodes that wait to be taken are kept in memory.
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
        # Whoever asked for the episodes has enough of them, or one failed.
        workers.abort()
        raise
    finally:
        workers.stop()


class _RecorderProcess:
    """In a process of its own: answers an episode's number and its rows with the episode."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recorder = _recorder(recipe)
        self._seed = seed

    def __call__(self, task: tuple[int, int]) -> Episode:
        episode, rows = task
        return self._recorder.record(_generator(self._seed, episode), rows)

    def close(self) -> None:
        self._recorder.close()
