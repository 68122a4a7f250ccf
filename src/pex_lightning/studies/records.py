"""What a run of a study is, and where runs are found."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pex_lightning.errors import UserError, in_one_line, printable, shortened
from pex_lightning.files.atomic import replaced
from pex_lightning.files.safe_yaml import parse_yaml

_log = logging.getLogger(__name__)

RECORD = "run.json"
RECORD_FORMAT = 1
STUDY_FILE = "study.yaml"
PROVENANCE = "provenance.json"
LARGEST_PROVENANCE = 10_000_000
_LARGEST_RECORD = 10_000_000
_LARGEST_STUDY = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

RunState = Literal["waiting", "running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class RunRecord:
    """One run of a study, as `run.json` in its folder has it.

    Attributes:
        study: Name of the study; empty for a run that belongs to none.
        variant: What is compared, such as a method.
        task: What it is compared on.
        seed: Its `--seed_everything`.
        arguments: Arguments of `pex-lightning fit`, without the folder.
        state: `waiting`, `running`, `finished`, `stopped` (by a signal; it goes on when the study
            does) or `failed`.
        reason: Why it failed, in one line.
        exit_code: Exit code of its last process; negative for a signal.
        attempts: Processes that were started for it.
        seconds: Time that all of them took.
        host: Machine that the last one ran on.
        started: When the first one started, ISO 8601.
        ended: When the last one ended, ISO 8601.
        version: Version of this package that ran it.
        git_revision: Commit of the checkout that this package ran from; None outside one.
    """

    study: str
    variant: str
    task: str
    seed: int
    arguments: tuple[str, ...] = ()
    state: RunState = "waiting"
    reason: str | None = None
    exit_code: int | None = None
    attempts: int = 0
    seconds: float = 0.0
    host: str | None = None
    started: str | None = None
    ended: str | None = None
    version: str | None = None
    git_revision: str | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.task}-{self.variant}-{self.seed}"


@dataclass(frozen=True)
class FoundRun:
    """A run's folder, and its record."""

    folder: Path
    record: RunRecord


def check_name(flag: str, name: str) -> None:
    """Refuse a name of a study, a variant or a task that is none for a folder.

    Raises:
        UserError: Names the flag.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{flag} is {name!r}, expected up to 100 letters, digits, '.', '_', '+' and '-', "
            "beginning with a letter or a digit."
        )


def write_record(folder: Path, record: RunRecord) -> None:
    """Write `run.json`, whole or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / RECORD) as aside:
        content = {"format": RECORD_FORMAT, **asdict(record)}
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_record(folder: Path) -> RunRecord:
    """Read a run's `run.json`.

    Raises:
        FileNotFoundError: There is none.
        UserError: It is damaged, or of another version of this package.
    """
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_LARGEST_RECORD))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}). Remove it to run it anew.") from error
    if not isinstance(content, dict) or content.get("format") != RECORD_FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{path} has the format {found!r}, expected {RECORD_FORMAT}: another version of this "
            "package wrote it. Use that version, or choose another --study.name."
        )
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}). Remove it to run it anew.") from error


def _checked(content: dict[str, Any]) -> RunRecord:
    content.pop("format")
    record = RunRecord(**content)
    for name in ("study", "variant", "task"):
        if not isinstance(getattr(record, name), str):
            raise TypeError(f"{name} is no text")
    for name in ("reason", "version", "git_revision"):
        if not isinstance(getattr(record, name), str | None):
            raise TypeError(f"{name} is no text")
    if (
        type(record.seed) is not int
        or not 0 <= record.seed < 2**32
        or record.state not in get_args(RunState)
    ):
        raise ValueError("seed or state is not one")
    if not all(isinstance(argument, str) for argument in record.arguments):
        raise TypeError("arguments are no texts")
    return replace(record, arguments=tuple(record.arguments))


def find_runs(paths: Iterable[Path]) -> list[FoundRun]:
    """Find the runs that folders hold: of a run, of a study, or of several runs.

    A run that belongs to no study counts as a variant of its own with the name of its folder.

    Args:
        paths: Folders.

    Returns:
        Runs in the order of the paths; those of a study by task, variant and seed, with tasks and
        variants as its `study.yaml` lists them, else by name; none twice.

    Raises:
        UserError: A folder is missing, or holds no run.
    """
    found: dict[Path, FoundRun] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: there is no such folder; expected a run or a study.")
        inside = [path] if _is_run(path) else [p for p in path.iterdir() if _is_run(p)]
        folders = [FoundRun(folder, _record_of(folder)) for folder in sorted(inside)]
        if not folders:
            raise UserError(
                f"{path} holds no run: expected a folder with offline/ or online/ in it, or a "
                "study's folder with such folders."
            )
        for run in _in_order(path, folders):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def _in_order(study: Path, runs: list[FoundRun]) -> list[FoundRun]:
    """The runs of a folder in the order of the study's file, if there is one."""
    places: list[dict[str, int]] = []
    try:
        with (study / STUDY_FILE).open("rb") as file:
            content = parse_yaml(file.read(_LARGEST_STUDY))
        for group in ("tasks", "variants"):
            places.append({name: place for place, name in enumerate(dict(content["study"][group]))})
    except FileNotFoundError:
        return runs
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = shortened(printable(in_one_line(error)))
        _log.warning(f"{study / STUDY_FILE} is damaged ({reason}), so runs are ordered by name.")
        return runs
    tasks, variants = places

    def place(run: FoundRun) -> tuple[int, int, int]:
        # What is no part of the study any more comes last.
        record = run.record
        return (
            tasks.get(record.task, len(tasks)),
            variants.get(record.variant, len(variants)),
            record.seed,
        )

    return sorted(runs, key=place)


def _is_run(path: Path) -> bool:
    # Runs from Python have no configuration.
    stages, of_a_stage = ("offline", "online"), ("config.yaml", "metrics.csv")
    files = (f"{stage}/{file}" for stage in stages for file in of_a_stage)
    return path.is_dir() and any((path / file).exists() for file in (RECORD, *files))


def _record_of(folder: Path) -> RunRecord:
    try:
        return read_record(folder)
    except FileNotFoundError:
        return RunRecord("", folder.resolve().name, "", 0, state="finished")
