"""The command line in tests: how to run it, and a run of the built-in task that takes seconds."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pex_lightning.datasets.arrays import write_d4rl

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    code: int
    out: str
    err: str


class Command:
    """Runs `pex-lightning` in this process or in one of its own."""

    def __call__(self, *args: str) -> Outcome:
        from pex_lightning.cli import main

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = main(list(args))
                except SystemExit as stop:
                    code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Outcome(code, out.getvalue(), err.getvalue())

    def start(self, *args: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell would."""
        return subprocess.Popen(
            [sys.executable, "-m", "pex_lightning", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


@pytest.fixture(scope="session")
def command() -> Command:
    return Command()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Datasets that the package makes go to a folder of this session."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.chdir(ROOT)
    yield
    patch.undo()


def write_random_log(path: Path) -> None:
    """Write 200 random rows of 3 observations and 1 action, in episodes of 20 rows."""
    rng, rows = np.random.default_rng(0), 200
    write_d4rl(
        path,
        observations=rng.normal(size=(rows, 3)),
        actions=rng.uniform(-1, 1, (rows, 1)),
        rewards=rng.normal(size=rows),
        terminals=np.zeros(rows),
        timeouts=np.arange(rows) % 20 == 19,
    )


TinyArgs = Callable[..., list[str]]


@pytest.fixture(scope="session")
def tiny() -> TinyArgs:
    """Arguments of a run of both stages; later ones override."""

    def arguments(root: Path, *more: str, config: str = "conf/pointmaze.yaml") -> list[str]:
        fixed = [
            "--config",
            config,
            "--data.rows=2000",
            "--data.batch_size=8",
            "--model.hidden_dims=[16,16]",
            "--trainer.max_steps=40",
            "--trainer.log_every_n_steps=10",
            "--evaluation.episodes=1",
            "--evaluation.every=20",
            "--run.save_every=20",
            "--run.name=tiny",
            f"--run.root={root}",
        ]
        if "iql" not in config:
            fixed += ["--offline.max_steps=40", "--data.start_steps=50", "--data.chunk_size=5"]
            fixed += ["--data.initial_updates=0", "--data.updates_per_step=1"]
        return ["fit", *fixed, *more]

    return arguments


@pytest.fixture(scope="session")
def finished(command: Command, tiny: TinyArgs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; treat it as read-only."""
    root = tmp_path_factory.mktemp("finished")
    outcome = command(*tiny(root))
    assert outcome.code == 0, outcome.err
    return root / "tiny"


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Poll until a condition holds; fail if the process ends first or time runs out."""

    def wait(
        condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300.0
    ) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end, "timed out"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Assert that a command failed as a user error that says all of the words on one screen."""

    def check(outcome: Outcome, *words: str) -> None:
        assert outcome.code == 2, (outcome.code, outcome.err)
        assert "error: " in outcome.err, outcome.err
        message = outcome.err[outcome.err.index("error: ") :]
        assert len(message.splitlines()) <= 20, message
        assert "Traceback" not in outcome.err
        for word in words:
            assert word in message, (word, message)

    return check
