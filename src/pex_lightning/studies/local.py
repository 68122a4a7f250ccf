"""Runs of a study as processes of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass

from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.runner import RunEnd, ask_to_stop, end_at_once, start_process, why


@dataclass(frozen=True)
class Share:
    """What each run gets of this machine.

    Attributes:
        jobs: Runs at a time.
        threads: Threads of each.
        gpus: Number of GPUs, which runs take in turns.
    """

    jobs: int
    threads: int
    gpus: int = 0


def share_of_machine(
    runs: int, processes: int, jobs: int | None, threads: int | None, gpus: int
) -> Share:
    """Divide the cores: one run a core, or a GPU; fewer runs get more threads each.

    The networks are so small that a second thread speeds an update up by less than a second run
    makes up for.

    Args:
        runs: Runs to be done.
        processes: Processes that the largest run keeps busy.
        jobs: Runs at a time, if it is given.
        threads: Threads of each, if it is given.
        gpus: GPUs of this machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    if jobs is None:
        jobs = gpus or max(1, cores // max(1, processes))
    jobs = max(1, min(jobs, runs))
    if threads is None:
        threads = max(1, cores // (jobs * max(1, processes)))
    return Share(jobs, threads, gpus)


class _Process:
    """A run that this machine runs."""

    def __init__(self, run: PlannedRun, environment: dict[str, str]) -> None:
        self._run = run
        self._start = run.log.stat().st_size if run.log.exists() else 0
        self._process: subprocess.Popen[bytes] = start_process(run.command, run.log, environment)

    def poll(self) -> RunEnd | None:
        code = self._process.poll()
        if code is None:
            return None
        return RunEnd(code, why(self._run.log, self._start, code), socket.gethostname())

    def stop(self) -> None:
        ask_to_stop(self._process)

    def kill(self) -> None:
        end_at_once(self._process)
        self._process.wait()


class LocalRunner:
    """Starts runs as processes of this machine.

    Args:
        share: What each run gets.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._running: dict[int, _Process] = {}
        self.capacity: int | None = share.jobs

    def start(self, run: PlannedRun) -> _Process:
        """Start a run in the first slot that is free.

        Raises:
            OSError: Its folder cannot be written.
        """
        busy = {slot for slot, process in self._running.items() if process.poll() is None}
        slot = next(slot for slot in range(self._share.jobs) if slot not in busy)
        environment = thread_settings(self._share.threads)
        if self._share.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _gpu(slot % self._share.gpus)
        self._running[slot] = _Process(run, environment)
        return self._running[slot]

    def close(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            process.kill()


def thread_settings(threads: int) -> dict[str, str]:
    """Environment variables that give a process this number of threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def _gpu(index: int) -> str:
    """The name of a GPU among those that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index] if visible else str(index)
