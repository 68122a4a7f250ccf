"""How long a study will take, from a short measurement of each kind of run."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pex_lightning.callbacks.status import StageStatus, read_status
from pex_lightning.errors import UserError
from pex_lightning.files.disk import temporary_root
from pex_lightning.studies.local import Share, thread_settings
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.runner import end_at_once, start_process, why

MEASURED_UPDATES = 300
MEASURED_EPISODES = 10
_TIMEOUT_SECONDS = 1800.0


def measure(runs: Sequence[PlannedRun], share: Share) -> dict[tuple[str, str], float]:
    """Run some hundred updates of each variant on each task, as many at a time as in the study.

    Args:
        runs: Runs; the first one of each (variant, task) is measured.
        share: What each run gets of this machine.

    Returns:
        Seconds that a whole run will take, by (variant, task).

    Raises:
        UserError: A run fails; gives its reason.
    """
    kinds: dict[tuple[str, str], PlannedRun] = {}
    for run in runs:
        kinds.setdefault((run.record.variant, run.record.task), run)
    with (
        tempfile.TemporaryDirectory(dir=temporary_root(), prefix="pex-lightning-") as root,
        ThreadPoolExecutor(share.jobs) as pool,
    ):
        seconds = pool.map(lambda run: _measured(run, Path(root), share), kinds.values())
        return dict(zip(kinds, seconds, strict=True))


def _measured(run: PlannedRun, root: Path, share: Share) -> float:
    shape, name = run.shape, run.record.name
    short = [
        *shape.short_run,
        f"--trainer.max_steps={MEASURED_UPDATES}",
        *([f"--offline.max_steps={MEASURED_UPDATES}"] if shape.stage is not None else []),
        f"--evaluation.episodes={min(MEASURED_EPISODES, shape.episodes)}",
        f"--run.root={root}",
        f"--run.name={name}",
    ]
    log = root / f"{name}.txt"
    began = time.monotonic()
    command = ["fit", *run.record.arguments, *short]
    process = start_process(command, log, thread_settings(share.threads))
    try:
        code = process.wait(_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{name}: {MEASURED_UPDATES} updates took more than {_TIMEOUT_SECONDS / 60:.0f} "
            "minutes, so no time can be estimated."
        ) from error
    finally:
        end_at_once(process)
    if code != 0:
        raise UserError(f"{name} does not run: {why(log, 0, code)}")
    whole = time.monotonic() - began
    stages = {stage: read_status(root / name / stage) for stage in ("offline", "online")}
    return estimate(run, whole, stages)


def estimate(run: PlannedRun, whole: float, stages: Mapping[str, StageStatus | None]) -> float:
    """Seconds that a whole run takes, from a short one.

    Args:
        run: The run.
        whole: Seconds that the short one took.
        stages: How its stages ended, by name.

    Returns:
        Its start-up and what comes once before the updates of a stage, its updates, and its
        evaluations; an offline stage counts in full.
    """
    shape = run.shape
    planned = {
        "offline": (shape.offline_steps, shape.offline_evaluations),
        "online": (shape.online_steps, shape.online_evaluations),
    }
    episodes = min(MEASURED_EPISODES, shape.episodes)
    start, total = whole, 0.0
    for stage, status in stages.items():
        if status is None:
            continue
        updates, evaluations = planned[stage]
        start -= status.train_seconds - status.start_seconds + status.evaluation_seconds
        if status.seconds_per_update is not None:
            total += updates * status.seconds_per_update
        if status.evaluations:
            each = status.evaluation_seconds / (status.evaluations * episodes)
            total += evaluations * shape.episodes * each
    return max(0.0, start) + total
