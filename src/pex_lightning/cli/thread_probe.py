"""The process that `thread_measurement` measures in: times a stand-in of an update.

It writes torch's own number of threads, then answers each line `THREADS SECONDS` with updates a
second, until its input ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_T = TypeVar("_T")
_BATCH, _WIDTH, _NETWORKS, _INPUTS = 256, 256, 4, 32


def main() -> None:
    """Answer until the input ends."""
    update = _in_a_thread(stand_in)
    sys.stdout.write(f"{torch.get_num_threads()}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        threads, seconds = line.split()
        rate = _in_a_thread(updates_a_second, update, int(threads), float(seconds))
        sys.stdout.write(f"{rate}\n")
        sys.stdout.flush()


def _in_a_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function in a thread of its own.

    When it ends, it takes the threads that it has computed with along, so that none of them spins
    while another process is measured.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def stand_in() -> Callable[[], None]:
    """An update of the package's default size: forward, backward and Adam of 256x256 networks.

    Adam is written out: torch's imports its compiler, which takes seconds.
    """
    shapes = [(_INPUTS, _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 1)]
    networks = [
        [(torch.rand(shape) / 16 - 1 / 32).requires_grad_() for shape in shapes]
        for _ in range(_NETWORKS)
    ]
    learnt = [weight for network in networks for weight in network]
    moments = [(torch.zeros_like(weight), torch.ones_like(weight)) for weight in learnt]
    batch = torch.rand(_BATCH, _INPUTS)

    def update() -> None:
        loss = torch.zeros(())
        for first, second, last in networks:
            loss = loss + (((batch @ first).relu() @ second).relu() @ last - 1).square().mean()
        gradients = torch.autograd.grad(loss, learnt)
        with torch.no_grad():
            for weight, gradient, (mean, square) in zip(learnt, gradients, moments, strict=True):
                mean.lerp_(gradient, 0.1)
                square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                weight.addcdiv_(mean, square.sqrt().add_(1e-8), value=-1e-4)

    return update


def updates_a_second(update: Callable[[], None], threads: int, seconds: float) -> float:
    """Time updates for about so many seconds, after one that is not timed."""
    torch.set_num_threads(threads)
    update()
    start, count = time.perf_counter(), 0
    while True:
        update()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return count / elapsed


if __name__ == "__main__":
    main()
