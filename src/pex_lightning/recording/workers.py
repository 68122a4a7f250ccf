"""Episodes recorded in several processes; which process records one does not show in it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from pex_lightning.errors import UserError
from pex_lightning.processes import interrupts_held
from pex_lightning.recording.antmaze import AntMazeRecorder
from pex_lightning.recording.episode import Episode
from pex_lightning.recording.pointmaze import PointMazeRecorder
from pex_lightning.recording.recipes import PointMazeRecipe, Recipe

_PARENT_CHECK_SECONDS = 1.0
_EPISODES_PER_PROCESS = 4
_WAITING_PER_WORKER = 4

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
    if count < 1:
        raise UserError(f"workers: found {workers}, expected 1 or more")
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
    recipe: Recipe, sizes: list[int], seed: int, workers: int
) -> Generator[Episode, None, None]:
    # Never fork: threads of torch and of Lightning may hold locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (recipe, os.getpid()))
    # Few at a time: episodes that wait to be taken are kept in memory.
    pending: deque[Future[Episode]] = deque()
    tasks = enumerate(sizes)
    try:
        for episode, size in itertools.islice(tasks, workers * _WAITING_PER_WORKER):
            with interrupts_held():
                pending.append(pool.submit(_record_one, seed, episode, size))
        while pending:
            yield pending.popleft().result()
            for episode, size in itertools.islice(tasks, 1):
                pending.append(pool.submit(_record_one, seed, episode, size))
    except BrokenProcessPool as error:
        raise UserError(
            "recording: a worker process ended without an answer (what it said is above). If you "
            "call this from a script, put the call under 'if __name__ == \"__main__\":'. If it "
            "was killed for memory, take fewer workers; workers=1 starts no processes."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_here: Recorder | None = None
"""A worker process's recorder."""


def _start(recipe: Recipe, parent: int) -> None:
    """Set a worker process up."""
    global _here  # noqa: PLW0603  (what an initializer sets up has nowhere else to live)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _here = _recorder(recipe)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even if that was killed."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


def _record_one(seed: int, episode: int, rows: int) -> Episode:
    assert _here is not None
    return _here.record(_generator(seed, episode), rows)
