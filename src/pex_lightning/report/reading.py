"""What a report reads of a run's folder, of which any part may be missing or damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pex_lightning.callbacks.csv_logger import parse_log
from pex_lightning.errors import in_one_line, printable, shortened
from pex_lightning.files.safe_yaml import parse_yaml
from pex_lightning.studies.records import FoundRun, RunRecord

Floats = npt.NDArray[np.float64]

STAGES = ("offline", "online")
_LARGEST = {"metrics.csv": 200_000_000, "config.yaml": 1_000_000, "diagnostics.json": 10_000_000}
_MOST_SETTINGS = 3_000


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        folder: Its folder.
        columns: Columns of `metrics.csv` that hold numbers, [N] each, NaN where a row has none.
        dataset: Name of its dataset, empty if unknown.
        fingerprint: The dataset's fingerprint, empty if unknown.
        env: The environment's id, empty if unknown.
        config: Settings of `config.yaml` by their dotted names.
        diagnostics: `diagnostics.json`; empty if there is none.
    """

    folder: Path
    columns: Mapping[str, Floats] = field(default_factory=dict)
    dataset: str = ""
    fingerprint: str = ""
    env: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def points(self, x: str, y: str) -> tuple[Floats, Floats]:
        """Rows [K], in order of `x`, in which both columns have a finite number."""
        if x not in self.columns or y not in self.columns:
            return np.empty(0), np.empty(0)
        at, value = self.columns[x], self.columns[y]
        known = np.isfinite(at) & np.isfinite(value)
        order = np.argsort(at[known], kind="stable")
        return at[known][order], value[known][order]


@dataclass(frozen=True)
class Run:
    """A run as far as it can be read.

    Attributes:
        folder: Its folder.
        record: Its record.
        stages: Its stages by name.
        notes: What is missing or damaged, one sentence each.
    """

    folder: Path
    record: RunRecord
    stages: Mapping[str, Stage]
    notes: tuple[str, ...]

    @property
    def last(self) -> Stage | None:
        """Its online stage, or its offline stage if it has no other."""
        return self.stages.get("online", self.stages.get("offline"))


def read_runs(found: Sequence[FoundRun]) -> list[Run]:
    """Read runs; what cannot be read is left out and noted.

    A run that belongs to no study gets the id of its environment as its task. Runs that would be
    the same variant, task and seed are told apart by the number of their place.
    """
    runs = [_named(_read_run(one)) for one in found]
    seen: dict[tuple[str, str, str, int], int] = {}
    for number, run in enumerate(runs):
        record = run.record
        key = (record.study, record.variant, record.task, record.seed)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            variant = f"{record.variant} ({seen[key]})"
            runs[number] = replace(run, record=replace(record, variant=variant))
    return runs


def _named(run: Run) -> Run:
    record = run.record
    known = (stage.env for stage in run.stages.values() if stage.env)
    named = replace(
        record,
        study=printable(record.study),
        variant=printable(record.variant),
        task=printable(record.task or next(known, "unknown")),
    )
    return replace(run, record=named)


def _read_run(found: FoundRun) -> Run:
    notes: list[str] = []
    stages = {
        name: _stage(found.folder / name, notes)
        for name in STAGES
        if (found.folder / name).is_dir()
    }
    if not stages:
        notes.append("it has neither an offline nor an online stage yet")
    return Run(found.folder, found.record, stages, tuple(notes))


def _stage(folder: Path, notes: list[str]) -> Stage:
    name = folder.name
    columns: dict[str, Floats] = {}
    texts = {"dataset": "", "fingerprint": "", "env": ""}
    content = _content(folder / "metrics.csv", notes)
    if content is not None:
        header, rows, lost = parse_log(content)
        if content and not rows:
            notes.append(f"{name}/metrics.csv has no row that can be read")
        elif lost:
            notes.append(f"{lost} of {lost + len(rows)} lines of {name}/metrics.csv are damaged")
        columns = {key: _numbers([row[key] for row in rows]) for key in header}
        texts = {key: rows[-1].get(key, "") if rows else "" for key in texts}
    return Stage(
        folder=folder,
        columns=columns,
        config=_config(folder / "config.yaml", notes),
        diagnostics=_diagnostics(folder / "diagnostics.json", notes),
        **texts,
    )


def _numbers(cells: Sequence[str]) -> Floats:
    return np.array([_number(cell) for cell in cells], dtype=np.float64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _content(path: Path, notes: list[str]) -> bytes | None:
    where = f"{path.parent.name}/{path.name}"
    largest = _LARGEST[path.name]
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except FileNotFoundError:
        # A stage writes its diagnostics when it ends.
        if path.name != "diagnostics.json":
            of_train = ", as in runs of `train`" if path.name == "config.yaml" else ""
            notes.append(f"{where} is missing{of_train}")
        return None
    except OSError as error:
        notes.append(f"{where} cannot be read ({error.strerror or error})")
        return None
    if len(content) > largest:
        notes.append(f"{where} is larger than {largest:,} bytes")
        return None
    return content


def _diagnostics(path: Path, notes: list[str]) -> dict[str, Any]:
    content = _content(path, notes)
    try:
        found = {} if content is None else json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.parent.name}/{path.name} is damaged ({shortened(in_one_line(error))})")
        return {}
    return found


def _config(path: Path, notes: list[str]) -> dict[str, Any]:
    content = _content(path, notes)
    if content is None:
        return {}
    try:
        settings: dict[str, Any] = {}
        _flatten(parse_yaml(content), "", settings)
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.parent.name}/{path.name} is damaged ({shortened(in_one_line(error))})")
        return {}
    return settings


def _flatten(value: Any, name: str, into: dict[str, Any]) -> None:
    # Aliases let few bytes stand for more settings than memory holds.
    if len(into) > _MOST_SETTINGS:
        raise ValueError(f"more than {_MOST_SETTINGS} settings")
    if isinstance(value, dict) and value:
        for key, part in value.items():
            _flatten(part, f"{name}.{key}" if name else str(key), into)
    else:
        into[name] = value
