"""Runs of a study as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import socket
from typing import Any

from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.remote_job import RemoteJob
from pex_lightning.studies.runner import RunEnd

_CONNECT_SECONDS = 10.0
MAX_RETRIES = 10
"""How often a run whose machine or worker is lost goes on elsewhere."""


class RayRunner:
    """Gives runs to Ray, which decides where and when they run.

    A run whose node dies is started by Ray on another one, where it goes on from its checkpoint.
    The folder of runs has to lie on storage that all nodes share.

    Args:
        address: The cluster; None for that of `RAY_ADDRESS`, or else a new one on this machine.
        cpus: Cores that a run asks for.
        threads: Threads of its process.
        gpus: GPUs that it asks for.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, cpus: int, threads: int, gpus: float) -> None:
        try:
            import ray  # noqa: PLC0415
        except ImportError as error:
            raise UserError(
                "--study.backend ray needs Ray: pip install 'pex-lightning[ray]'."
            ) from error
        self._ray: Any = ray
        self._threads = threads
        self.capacity: int | None = None
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                _check_reachable(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"--study.address {address}: the Ray cluster cannot be reached "
                    f"({shortened(in_one_line(error))})."
                ) from error
        resources = self._ray.cluster_resources()
        for name, wanted in (("CPU", cpus), ("GPU", gpus)):
            if wanted > resources.get(name, 0):
                raise UserError(
                    f"a run asks for {wanted} {name}, but the whole Ray cluster has "
                    f"{resources.get(name, 0):g}. Ask for less with --study.threads or "
                    "--study.gpus, or add nodes."
                )
        self._options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_retries": MAX_RETRIES,
            "scheduling_strategy": "SPREAD",
        }

    def start(self, run: PlannedRun) -> _Task:
        """Put a run into Ray's queue."""
        job = RemoteJob.of(run, self._threads)
        task = self._ray.remote(_work).options(name=run.record.name, **self._options)
        return _Task(self._ray, task.remote(job))

    def close(self) -> None:
        """Leave the cluster."""
        if self._ours:
            self._ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Ask for a connection, since Ray waits for minutes where nobody answers.

    Raises:
        OSError: Nobody does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return


def _work(job: RemoteJob) -> RunEnd:
    return job()


class _Task:
    """A task of Ray."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference

    def poll(self) -> RunEnd | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        errors = self._ray.exceptions
        try:
            end: RunEnd = self._ray.get(self._reference)
        except errors.TaskCancelledError:
            return RunEnd(None, None, socket.gethostname())
        except errors.RayTaskError as error:
            if isinstance(error.cause, KeyboardInterrupt):
                return RunEnd(None, None, socket.gethostname())
            return RunEnd(None, shortened(in_one_line(error.cause), 500), "an unknown machine")
        except errors.RayError as error:
            reason = f"Ray gave it up after {MAX_RETRIES} retries: {in_one_line(error)}"
            return RunEnd(None, shortened(reason, 500), "an unknown machine")
        return end

    def stop(self) -> None:
        self._ray.cancel(self._reference, force=False)

    def kill(self) -> None:
        self._ray.cancel(self._reference, force=True)
