import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from pytorch_lightning import Callback

from pex_lightning.callbacks.interrupt import GracefulInterrupt


class Send(Callback):
    """Sends this process a signal once `step` updates are done."""

    def __init__(self, number: signal.Signals, step: int, times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_chunk(number: signal.Signals, toy: Any) -> None:
    interrupt = GracefulInterrupt()
    trainer = toy.fit(toy.algorithm("IQL"), 50, callbacks=[interrupt, Send(number, 10)])
    assert trainer.global_step == 10
    assert interrupt.received is number


def test_a_second_signal_ends_at_once(toy: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt = GracefulInterrupt()
    send = Send(signal.SIGINT, 10, times=2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        toy.fit(toy.algorithm("IQL"), 50, callbacks=[interrupt, send])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_without_a_signal_gives_them_back(toy: Any) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupt = GracefulInterrupt()
    toy.fit(toy.algorithm("IQL"), 10, callbacks=[interrupt])
    assert interrupt.received is None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
