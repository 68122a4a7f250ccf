"""Processes change nothing but the time, end with their parent, and say what went wrong."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pex_lightning.errors import UserError
from pex_lightning.recording.recipes import RECIPES
from pex_lightning.recording.workers import record_episodes

POINT, ANT = RECIPES["pointmaze-medium"], RECIPES["antmaze-umaze"]
POINT_EPISODE = POINT.episode_steps + 1
ENDLESS = """
import sys, time
from pathlib import Path
from pex_lightning.recording.make import make_dataset
if __name__ == "__main__":
    make_dataset("antmaze-umaze", Path("made.hdf5"), rows=10**6, workers=2, progress=True)
"""


def _episodes(recipe, **kwargs):
    return list(record_episodes(recipe, seed=5, **kwargs))


def _same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_episodes_are_whole_but_for_the_last():
    sizes = [len(episode["actions"]) for episode in _episodes(POINT, rows=3 * POINT_EPISODE + 10)]
    assert sizes == [POINT_EPISODE] * 3 + [10]


def test_each_episode_depends_on_the_seed_and_its_number_alone():
    short, long = _episodes(ANT, rows=20), _episodes(ANT, rows=701 + 30, workers=1)
    assert len(short) == 1
    np.testing.assert_array_equal(short[0]["actions"], long[0]["actions"][:20])
    assert not np.array_equal(long[0]["actions"][:30], long[1]["actions"])
    other = list(record_episodes(ANT, rows=20, seed=6))
    assert not np.array_equal(short[0]["actions"], other[0]["actions"])


@pytest.mark.slow
def test_an_abandoned_recording_ends_its_processes():
    episodes = record_episodes(POINT, rows=200 * POINT_EPISODE, seed=5, workers=2)
    expected = _episodes(POINT, rows=3 * POINT_EPISODE)
    found = list(itertools.islice(episodes, 3))
    assert all(map(_same, found, expected))
    assert len(_children(os.getpid())) >= 2
    episodes.close()
    # What is left is Python's own resource tracker.
    assert not [pid for pid in _children(os.getpid()) if "spawn_main" in _command(pid)]


@pytest.mark.slow
def test_an_exception_in_a_process_arrives_as_it_is():
    in_a_wall = replace(ANT, goal_cells=((0, 0),))
    with pytest.raises(ValueError, match="expected free cells"):
        _episodes(in_a_wall, rows=2 * 701, workers=2)


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_processes_than_one_are_refused(workers):
    with pytest.raises(UserError, match=f"workers is {workers}; it must be 1 or more"):
        _episodes(POINT, rows=100, workers=workers)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_processes_end_when_their_parent_does(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    parent = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(lambda: len(_workers(parent.pid)) == 2)
        # By then they have begun to record, or are about to.
        time.sleep(3.0)
        workers = _workers(parent.pid)
        assert len(workers) == 2
        parent.send_signal(number)
        words = parent.communicate(timeout=30)[1]
    finally:
        parent.kill()
    _wait_for(lambda: not any(_command(pid) for pid in workers))
    assert not (tmp_path / "made.hdf5").exists()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [script]
        assert words.count("Traceback") == 1


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ENDLESS.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "under 'if __name__ == \"__main__\":'" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [script]


def _wait_for(happened, seconds=30.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _workers(parent: int) -> list[int]:
    return [pid for pid in _children(parent) if "spawn_main" in _command(pid)]


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def _command(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
