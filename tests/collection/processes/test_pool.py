"""Collection in other processes. Each pool takes seconds to start, so tests share them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from tensordict import TensorDict

from pex_lightning.collection.local import EnvFrames
from pex_lightning.collection.pool import CollectorPool
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError


def frames(parts: list[EnvFrames]) -> dict[int, TensorDict]:
    return {part.environment: part.frames for part in parts}


def rows(parts: list[EnvFrames]) -> TensorDict:
    return torch.cat([part.frames for part in parts])


@pytest.fixture(scope="module")
def pool(collecting: Any) -> Iterator[tuple[CollectorPool, Any]]:
    actor = collecting.Level()
    pool = CollectorPool(actor, EnvFactory.of(collecting.ENV_ID, {}), size=2, seed=7)
    yield pool, actor
    pool.close()


def test_every_process_gets_its_share_in_turn(pool: Any) -> None:
    # The first test of the pool: frame k is process k mod 2's.
    sizes = [
        {environment: part.shape[0] for environment, part in frames(pool[0].collect(count)).items()}
        for count in (1, 1, 1, 5, 4, 2)
    ]
    assert sizes == [{0: 1}, {1: 1}, {0: 1}, {0: 2, 1: 3}, {0: 2, 1: 2}, {0: 1, 1: 1}]
    assert list(frames(pool[0].collect(6))) == [0, 1]


def test_each_environment_goes_on_where_it_was_and_draws_for_itself(pool: Any) -> None:
    first, second = (frames(pool[0].collect(count)) for count in (6, 8))
    for environment in (0, 1):
        both = torch.cat([first[environment], second[environment]])
        goes_on = ~both["next", "done"][:-1, 0]
        assert 0 < goes_on.sum() < 6
        following = both["next", "observation"][:-1][goes_on]
        assert torch.equal(following, both["observation"][1:][goes_on])
    assert not torch.isin(second[0]["observation"][:, 1], second[1]["observation"][:, 1]).any()
    assert not torch.isin(second[0]["action"][:, 1], second[1]["action"][:, 1]).any()


def test_frames_are_acted_with_the_weights_of_their_request(pool: Any) -> None:
    collection, actor = pool
    actor.set(0.25)
    assert collection.request(4) == 4
    actor.set(0.5)
    assert rows(collection.collect(4))["action"][:, 0].tolist() == [0.25] * 4
    assert rows(collection.collect(4))["action"][:, 0].tolist() == [0.5] * 4


def test_signals_are_left_to_the_learner(pool: Any) -> None:
    # They have begun once they have answered.
    pool[0].collect(4)
    for worker in pool[0]._workers:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.process.pid, number)
    assert rows(pool[0].collect(4)).shape[0] == 4


def test_a_process_that_is_killed_is_a_user_error_and_ends_the_others(pool: Any) -> None:
    # The last test of the pool.
    collection, _ = pool
    processes = [worker.process for worker in collection._workers]
    processes[1].kill()
    with pytest.raises(UserError, match=r"num_collectors: the process of collector 1 .* -9; .*mem"):
        collection.collect(4)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        (
            {"raises_at": 3},
            r"collector 0, which runs PexCollecting-v0, failed: ValueError: the toy",
        ),
        ({"unmakeable": True}, r"PexCollecting-v0, failed: RuntimeError: no licence"),
    ],
)
def test_an_exception_in_a_process_is_a_user_error(
    kwargs: dict[str, Any], says: str, collecting: Any
) -> None:
    factory = EnvFactory.of(collecting.ENV_ID, kwargs)
    pool = CollectorPool(collecting.Level(), factory, size=1, seed=7)
    process = next(iter(pool._workers)).process
    with pytest.raises(UserError, match=says) as raised:
        pool.collect(4)
    assert "Traceback" in str(raised.value.__cause__)
    assert not process.is_alive()


def test_an_environment_that_cannot_be_sent_is_refused(collecting: Any) -> None:
    gymnasium.register("PexLambda-v0", entry_point=lambda: None, max_episode_steps=5)
    try:
        factory = EnvFactory.of("PexLambda-v0", {})
        with pytest.raises(UserError, match=r"num_collectors is 1, but .*PexLambda-v0 cannot"):
            CollectorPool(collecting.Level(), factory, size=1, seed=0)
    finally:
        gymnasium.registry.pop("PexLambda-v0")


SCRIPT = """
import sys, time
import gymnasium
import collecting_toy
from pex_lightning.collection.pool import CollectorPool
from pex_lightning.envs.factory import EnvFactory

if __name__ == "__main__":
    gymnasium.register(collecting_toy.ENV_ID, "collecting_toy:CollectingEnv", max_episode_steps=5)
    factory = EnvFactory.of(collecting_toy.ENV_ID, {})
    pool = CollectorPool(collecting_toy.Level(), factory, size=1, seed=0)
    pool.collect(3)
    print(next(iter(pool._workers)).process.pid, flush=True)
    time.sleep(60)
"""


def test_processes_end_with_a_learner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as learner:
        assert learner.stdout is not None
        pid = int(learner.stdout.readline())
        learner.kill()
    deadline = time.monotonic() + 20
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
