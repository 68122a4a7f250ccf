"""Repeating a run: the configuration that it wrote runs it again, in a folder of its own."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path
from typing import Any

from pex_lightning.cli.ranks import is_started_by_us
from pex_lightning.cli.yaml_limits import read_config

_NAME = "PEX_LIGHTNING_REPEATED_AS"
_WHICH_RUN = ("--run.name", "--run.root", "--run.overwrite", "--ckpt_path", "--print_config")
_STAGES = ("online", "offline")

_log = logging.getLogger(__name__)


def under_a_new_name(args: list[str]) -> list[str]:
    """Add another `--run.name` to a command line that is a run's own configuration.

    Nothing is added where the command line says which run it means: by name, root, checkpoint, or
    that it is to be overwritten.

    Args:
        args: A command line with `--config FILE`, each file on its own.
    """
    flags = {argument.partition("=")[0] for argument in args}
    if not flags.isdisjoint(_WHICH_RUN):
        return args
    files = [Path(value) for flag, value in itertools.pairwise(args) if flag == "--config"]
    settings = ((file, _run_settings(file)) for file in reversed(files))
    file, run = next(((f, found) for f, found in settings if found), (None, {}))
    if file is None or not _wrote(run, file):
        return args
    name = _new_name(Path(str(run["root"])), str(run["name"]))
    return args if name is None else [*args, f"--run.name={name}"]


def _run_settings(file: Path) -> dict[str, Any]:
    """What a file says under `run`."""
    content = read_config(file)
    settings = content.get("run") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else {}


def _wrote(run: dict[str, Any], file: Path) -> bool:
    """Whether the run of these settings wrote the file that they are in."""
    folder = Path(str(run.get("root"))) / str(run.get("name"))
    names = [folder.resolve() / place / "config.yaml" for place in ("", *_STAGES)]
    return file.resolve() in names


def _new_name(root: Path, name: str) -> str | None:
    if is_started_by_us():
        # The first process has chosen, and has made the folder by now.
        return os.environ.get(_NAME)
    if "LOCAL_RANK" in os.environ:
        # Processes that others start would choose at the same time, and perhaps otherwise.
        return None
    numbers = itertools.count(2)
    free = next(new for n in numbers if not (root / (new := f"{name}-{n}")).exists())
    os.environ[_NAME] = free
    _log.info("%s is the run of this configuration; it is repeated in %s", root / name, root / free)
    return free
