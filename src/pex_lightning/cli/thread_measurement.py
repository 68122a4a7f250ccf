"""Measures, before torch is loaded here, with how many threads an update is fastest.

How OpenMP's threads wait is read when torch is loaded, so each way needs a process of its own. The
processes take turns in short blocks: what else the machine does slows all that is compared alike.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import IO

from pex_lightning.errors import shortened
from pex_lightning.jobs import start_module

_MODULE = "pex_lightning.cli.thread_probe"
_ROUNDS = 9
_BLOCK_SECONDS = 0.04
_SECONDS = 3.0
_LONGEST_BLOCK_SECONDS = 1.0
LIMIT_SECONDS = 20.0
"""So long a process may take until it has loaded torch."""

Rates = dict[tuple[str, int], float]
"""Updates a second by the way of waiting and the number of threads; 0 where none was done in
`_LONGEST_BLOCK_SECONDS`."""


class MeasurementError(Exception):
    """Nothing was measured; the message is a sentence without its full stop."""


class _TooLateError(MeasurementError):
    """A process did not answer in time, and was ended."""


def usable_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numbers_to_try(cores: int, own: int) -> list[int]:
    """1, 2, 4 and so on, all cores, and the number that torch takes by itself."""
    powers = {2**power for power in range(cores.bit_length())}
    return sorted({*powers, cores, own})


def measure(ways: Mapping[str, Mapping[str, str]], numbers: list[int] | None) -> Rates:
    """Measure a stand-in of an update in every way; medians over the rounds.

    One thread waits for no other, so it is measured in the first way alone.

    Args:
        ways: Environment variables of each way of waiting, by its name.
        numbers: Numbers of threads; None for `numbers_to_try`; empty for torch's own.

    Raises:
        MeasurementError: A process failed, or could not load torch within `LIMIT_SECONDS`.
    """
    with _probes(ways) as probes:
        own = max(int(probe.answer(LIMIT_SECONDS)) for probe in probes)
        if numbers is None:
            numbers = numbers_to_try(usable_cores(), own)
        pairs = [(probe, number) for number in numbers or [own] for probe in probes]
        pairs = [(probe, number) for probe, number in pairs if number > 1 or probe is probes[0]]
        rates = {key: median(found) for key, found in _in_turns(pairs).items()}
    if not any(rates.values()):
        raise _TooLateError(f"no update was done within {_LONGEST_BLOCK_SECONDS:g} s")
    return rates


def _in_turns(pairs: Sequence[tuple[_Probe, int]]) -> dict[tuple[str, int], list[float]]:
    """The rates of all blocks, until there are `_ROUNDS` or `_SECONDS` are about over.

    Where blocks take so long that one round does not end in twice that time, the last pairs of it
    have no rate.
    """
    found: dict[tuple[str, int], list[float]] = {}
    start = time.monotonic()
    for done in range(_ROUNDS):
        # In the other order every other time.
        for probe, number in pairs[:: -1 if done % 2 else 1]:
            if time.monotonic() - start > 2 * _SECONDS:
                return found
            if probe.ended:
                continue
            try:
                found.setdefault((probe.way, number), []).append(probe.ask(number))
            except _TooLateError:
                # Threads that spin can hold each other up for seconds on cores that are taken.
                found[probe.way, number] = [0.0]
        passed = time.monotonic() - start
        if passed + passed / (done + 1) > _SECONDS:
            break
    return found


class _Probe:
    """A process that times blocks in one way of waiting.

    Attributes:
        way: The way's name.
        process: It.
        ended: Whether it was ended from here.
    """

    def __init__(self, way: str, environment: Mapping[str, str], errors: IO[bytes]) -> None:
        self.way, self._errors = way, errors
        self.process = start_module(
            _MODULE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            environment=environment,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self.ended = False

    def ask(self, number: int) -> float:
        """The updates a second of one block with this number of threads."""
        # If the process is gone, its answer says so.
        with contextlib.suppress(OSError):
            self._stdin.write(f"{number} {_BLOCK_SECONDS}\n".encode())
            self._stdin.flush()
        return self.answer(_LONGEST_BLOCK_SECONDS)

    def answer(self, seconds: float) -> float:
        """The next line as a number; if it does not come in time, the process is ended.

        Raises:
            MeasurementError: There is none.
        """
        start = time.monotonic()
        killer = threading.Timer(seconds, self.process.kill)
        killer.daemon = True
        killer.start()
        try:
            line = self._stdout.readline()
        finally:
            killer.cancel()
        if line:
            return float(line)
        self.end()
        if time.monotonic() - start >= seconds:
            raise _TooLateError(f"it took longer than {seconds:g} s")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        why = f" ({shortened(lines[-1])})" if lines else ""
        raise MeasurementError(f"its process ended with exit code {self.process.returncode}{why}")

    def end(self) -> None:
        """End the process, whatever it is at."""
        self.ended = True
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and close its pipes."""
        self.end()
        self._stdout.close()
        # What could not be sent any more is dropped.
        with contextlib.suppress(OSError):
            self._stdin.close()


@contextlib.contextmanager
def _probes(ways: Mapping[str, Mapping[str, str]]) -> Iterator[list[_Probe]]:
    """A process for each way, which end with this block."""
    with contextlib.ExitStack() as stack:
        probes: list[_Probe] = []
        try:
            for way, environment in ways.items():
                errors = stack.enter_context(tempfile.TemporaryFile())
                probes.append(_Probe(way, environment, errors))
                stack.callback(probes[-1].close)
        except OSError as error:
            raise MeasurementError(f"no process could be started: {error}") from error
        yield probes
