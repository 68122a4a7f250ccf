"""`provenance.json` and `config.yaml` in a run's folder: what made it, on what, and when."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.cli.stage import Stage
from pex_lightning.cli.threads import Threads
from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.files.atomic import replaced
from pex_lightning.handover import Checkpoint
from pex_lightning.studies.records import LARGEST_PROVENANCE, PROVENANCE
from pex_lightning.studies.versions import code_version

_log = logging.getLogger(__name__)

_FORMAT = 1
_PACKAGES = (
    "torch",
    "pytorch-lightning",
    "torchrl",
    "tensordict",
    "numpy",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "h5py",
    "minari",
    "jsonargparse",
    "omegaconf",
    "tensorboard",
    "wandb",
    "mlflow",
    "mlflow-skinny",
)


class Attempt:
    """One attempt of a run, as it is told from outside.

    Attributes:
        exit_code: What the command ends with; None while it is not known.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None


@contextlib.contextmanager
def recorded(
    stage: Stage,
    arguments: Sequence[str],
    resume: Checkpoint | None,
    threads: Threads,
    *,
    goes_on: bool,
) -> Iterator[Attempt]:
    """Note an attempt of a run in its folder, at its begin and at its end.

    `config.yaml` is the attempt's configuration. `provenance.json` has what is the same for all
    attempts, and under `attempts` each of them: command line, times in UTC, versions, machine,
    and how it ended. One that was killed has no end. Both files are written whole or not at all,
    by the first process of a run.

    Args:
        stage: The run's main stage, after its data's `setup`.
        arguments: The arguments of `pex-lightning fit`.
        resume: The checkpoint that the attempt goes on from.
        threads: What it computes with.
        goes_on: Whether earlier attempts in the folder are of the same run.

    Raises:
        UserError: The folder cannot be written when the attempt begins.
    """
    attempt = Attempt()
    if not rank_zero_only(lambda: True)():
        yield attempt
        return
    directory, data = stage.settings.directory, stage.data.describe()
    earlier = _earlier(directory / PROVENANCE) if goes_on else []
    began = time.monotonic()
    entry: dict[str, Any] = {
        "command": ["pex-lightning", "fit", *arguments],
        "folder": os.getcwd(),
        "resumed_from": None if resume is None else str(resume.path),
        "started": _now(),
        "ended": None,
        "seconds": None,
        "exit_code": None,
        "error": None,
        **_made_by(),
        **threads.record(),
    }
    content = {
        "format": _FORMAT,
        "run": stage.settings.name,
        "seed": stage.seed,
        "evaluation_seed": stage.evaluation_seed,
        "dataset": data.dataset,
        "fingerprint": data.fingerprint,
        "env": data.env.id,
        "attempts": [*earlier, entry],
    }
    try:
        with replaced(directory / "config.yaml") as aside:
            aside.write_text(stage.config)
        _write(directory, content)
    except OSError as error:
        raise UserError(
            f"the results cannot be written to {directory}: {error.strerror}. Choose another "
            "folder with --run.root."
        ) from error
    try:
        yield attempt
    except BaseException as error:
        attempt.exit_code = _exit_code(error)
        entry["error"] = shortened(in_one_line(error), 1_000)
        raise
    finally:
        entry |= {
            "ended": _now(),
            "seconds": round(time.monotonic() - began, 1),
            "exit_code": attempt.exit_code,
        }
        try:
            _write(directory, content)
        except OSError as error:
            # What the run is for, its checkpoints and metrics, is written by now.
            _log.warning(
                "%s could not be written (%s), so it lacks the end of this run.",
                directory / PROVENANCE,
                error.strerror or error,
            )


def _exit_code(error: BaseException) -> int:
    """What the command line answers to an exception."""
    if isinstance(error, UserError):
        return 2
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _made_by() -> dict[str, Any]:
    """The code and the machine."""
    code = code_version()
    return {
        "version": code.version,
        "git_revision": code.git_revision,
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": _gpus(),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names of all NVIDIA GPUs of the machine.

    torch would open the devices to tell them, which processes that are forked later cannot bear.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run(
            [command, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _earlier(path: Path) -> list[dict[str, Any]]:
    """The attempts that a file holds; none of a file that is damaged, of which the user is told."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(LARGEST_PROVENANCE))
        attempts = content["attempts"]
        if content["format"] != _FORMAT or not all(isinstance(one, dict) for one in attempts):
            raise ValueError(f"format {content['format']!r:.40}")
        return list(attempts)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        _log.warning(
            "%s is damaged (%s), so it begins anew with this attempt.",
            path,
            shortened(in_one_line(error)),
        )
        return []


def _write(directory: Path, content: Mapping[str, Any]) -> None:
    with replaced(directory / PROVENANCE) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")
