"""Runs of a study as jobs of Slurm, by `submitit`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.remote_job import RemoteJob
from pex_lightning.studies.runner import RunEnd

_CLUSTER = "cluster"
_DEFAULT_MINUTES = 24 * 60


class SlurmRunner:
    """Gives runs to Slurm.

    A job that is preempted, or whose time is up, saves and is queued again by `submitit`, and goes
    on from its checkpoint.

    Args:
        folder: Where `submitit` keeps its files.
        name: Name of the jobs.
        cpus: Cores that a run asks for.
        threads: Threads of its process.
        gpus: GPUs that it asks for.
        parameters: Further parameters of `submitit.AutoExecutor.update_parameters`; `cluster` is
            its argument of that name.

    Raises:
        UserError: `submitit` is not installed, there is no Slurm, or a parameter is unknown.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        cpus: int,
        threads: int,
        gpus: float,
        parameters: Mapping[str, Any],
    ) -> None:
        try:
            import submitit  # noqa: PLC0415
        except ImportError as error:
            raise UserError(
                "--study.backend slurm needs submitit: pip install 'pex-lightning[slurm]'."
            ) from error
        if gpus != int(gpus):
            raise UserError(f"--study.gpus is {gpus}, expected a whole number for Slurm.")
        self._threads = threads
        self.capacity: int | None = None
        given = dict(parameters)
        try:
            cluster = given.pop(_CLUSTER, "slurm")
            self._executor = submitit.AutoExecutor(folder=folder.resolve(), cluster=cluster)
            asked = {"timeout_min": _DEFAULT_MINUTES, "cpus_per_task": cpus}
            if gpus:
                asked["gpus_per_node"] = int(gpus)
            self._executor.update_parameters(name=name, **{**asked, **given})
        except (ValueError, RuntimeError, NameError, TypeError) as error:
            raise UserError(
                f"--study.slurm: submitit refuses these settings ({in_one_line(error)})."
            ) from error

    def start(self, run: PlannedRun) -> _Job:
        """Submit a run.

        Raises:
            UserError: Slurm refuses it.
        """
        job = RemoteJob.of(run, self._threads)
        try:
            return _Job(self._executor.submit(job))
        except Exception as error:
            raise UserError(
                f"{run.record.name}: the job cannot be submitted ({in_one_line(error)})."
            ) from error

    def close(self) -> None:
        """Jobs that go on belong to Slurm."""


class _Job:
    """A job of Slurm."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self._cancelled = False

    def poll(self) -> RunEnd | None:
        if not self._job.done():
            return None
        if self._cancelled:
            return RunEnd(None, None, socket.gethostname())
        try:
            end: RunEnd = self._job.result()
        except Exception as error:
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            reason = lines[-1] if lines else in_one_line(error)
            return RunEnd(None, f"job {self._job.job_id}: {shortened(reason, 400)}", "unknown")
        return end

    def stop(self) -> None:
        self._cancelled = True
        self._job.cancel(check=False)

    def kill(self) -> None:
        self.stop()
