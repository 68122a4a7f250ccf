"""Calls of environments: what is noted, who is told, and what interrupts one."""

from __future__ import annotations

import contextlib
import signal
import time

import gymnasium
import numpy as np
import pytest

from pex_lightning import calls
from pex_lightning.envs.standard import StandardEnv
from pex_lightning.processes import Workers


class Sleeper(gymnasium.Env):
    """Sleeps in the place that it is told."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, place: str, seconds: float = 60.0) -> None:
        self.place, self.seconds = place, seconds

    def _at(self, place: str) -> None:
        if place == self.place:
            time.sleep(self.seconds)

    def reset(self, *, seed=None, options=None):
        self._at("reset")
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._at("step")
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def close(self):
        self._at("close")


def steps(place: str, number: int, seconds: float = 60.0) -> None:
    env = StandardEnv(Sleeper(place, seconds), (), "Sleeper")
    env.reset()
    for _ in range(number):
        env.step(np.zeros(1, np.float32))


class Stepper:
    """Steps in a worker when it is told a number of steps."""

    def __call__(self, number: int) -> int:
        steps("step" if number == 3 else "", number)
        return number


@pytest.mark.parametrize(
    ("place", "says"), [("step", "from step 1 of an episode for 0.4 s"), ("reset", "from reset")]
)
def test_a_call_that_hangs_is_interrupted(place: str, says: str, capsys):
    start = time.monotonic()
    with calls.limited(0.4), pytest.raises(calls.CallHangsError, match=says) as raised:
        steps(place, 2)
    assert time.monotonic() - start < 10
    assert "environment Sleeper" in str(raised.value)
    assert "--run.env_timeout" in str(raised.value)
    assert "interrupting it" in capsys.readouterr().err


def test_a_close_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture):
    start = time.monotonic()
    with calls.limited(0.4):
        StandardEnv(Sleeper("close"), (), "Sleeper").close()
    assert time.monotonic() - start < 10
    assert "Sleeper is left open" in caplog.text


def test_many_short_calls_and_what_lies_between_them_do_not_count():
    with calls.limited(0.3):
        steps("step", 5, seconds=0.15)
        time.sleep(0.8)


def test_no_limit_waits():
    with calls.limited(0):
        steps("step", 1, seconds=0.5)


def test_a_call_that_swallows_the_interruption_is_named_again(capsys):
    class Stubborn(Sleeper):
        def step(self, action):
            end = time.monotonic() + 2
            while time.monotonic() < end:
                with contextlib.suppress(calls.CallHangsError):
                    time.sleep(0.05)
            return super().step(action)

    with calls.limited(0.4):
        StandardEnv(Stubborn(""), (), "Sleeper").step(np.zeros(1))
    said = capsys.readouterr().err
    assert "Sleeper has not returned from step 1" in said
    assert "cannot be interrupted" in said
    assert "kill -9" in said


def test_the_handler_of_the_signal_is_put_back():
    before = signal.getsignal(signal.SIGURG)
    with calls.limited(1):
        assert signal.getsignal(signal.SIGURG) is not before
        signal.raise_signal(signal.SIGURG)
    assert signal.getsignal(signal.SIGURG) is before


@pytest.mark.slow
def test_a_worker_in_a_call_that_hangs_is_ended_and_named():
    workers = Workers()
    with calls.limited(0.6):
        worker = workers.start(Stepper, name="process 7", fewer="processes")
        try:
            worker.send(2)
            assert worker.receive() == 2
            # Waiting for a message is no call.
            time.sleep(1.2)
            worker.send(3)
            with pytest.raises(calls.CallHangsError, match="process 7 was ended: environment Sl"):
                worker.receive()
        finally:
            workers.stop()
    assert not worker.process.is_alive()
