"""All metrics of many runs as one tidy table, `results.parquet` and `results.csv`."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.csv import write_csv

from pex_lightning.callbacks.checkpoint import LAST
from pex_lightning.callbacks.csv_logger import parse_log
from pex_lightning.errors import UserError, in_one_line, printable, shortened
from pex_lightning.files.atomic import written_aside
from pex_lightning.handover import read_checkpoint
from pex_lightning.studies.records import FoundRun

_log = logging.getLogger(__name__)

TABLE_FORMAT = 1
PARQUET = "results.parquet"
CSV = "results.csv"
_FORMAT_KEY = b"pex_lightning_table_format"
_TEXT = pa.string()
_SCHEMA = pa.schema(
    {
        "study": _TEXT,
        "variant": _TEXT,
        "task": _TEXT,
        "seed": pa.int64(),
        "stage": _TEXT,
        "step": pa.int64(),
        "env_steps": pa.int64(),
        "metric": _TEXT,
        "value": pa.float64(),
        "dataset": _TEXT,
        "fingerprint": _TEXT,
        "version": _TEXT,
        "git_revision": _TEXT,
    },
    metadata={_FORMAT_KEY: str(TABLE_FORMAT)},
)
COLUMNS = tuple(_SCHEMA.names)
_NO_METRICS = {"step", "seconds", "env_steps", "dataset", "fingerprint", "env", "d4rl_score"}
"""Columns of `metrics.csv` that are no metrics."""
_STAGES = ("offline", "online")
_COUNT = re.compile(r"[0-9]{1,15}")


def collect(runs: Sequence[FoundRun]) -> pd.DataFrame:
    """Read the metrics of runs into one table.

    Of a `metrics.csv` that is damaged, the rows that can be read are taken; a run without any has
    no rows. The task of a run that belongs to no study is its environment.

    Returns:
        One row for each run, stage, step and metric, in this order, with the columns `COLUMNS`:
        `step` counts gradient steps of the stage, `env_steps` environment steps (missing where the
        run did not note them), `version` and `git_revision` are empty where they are not known.

    Raises:
        UserError: Two folders hold the same run of the same study.
    """
    frames, folders = [], dict[tuple[str, str, str, int], Path]()
    for run in runs:
        for frame in (_stage(run, stage) for stage in _STAGES):
            if frame.empty:
                continue
            frames.append(frame)
            first = frame.iloc[0]
            key = (first["study"], first["variant"], first["task"], int(first["seed"]))
            other = folders.setdefault(key, run.folder)
            if other != run.folder:
                raise UserError(
                    f"{other} and {run.folder} are both the run {key[1]} with seed {key[3]} on "
                    f"{key[2]}, so a table cannot tell them apart. Give one of them, or rename a "
                    "folder that belongs to no study."
                )
    if not frames:
        return _SCHEMA.empty_table().to_pandas().astype({"env_steps": "Int64"})
    return pd.concat(frames, ignore_index=True)


def write_table(folder: Path, frame: pd.DataFrame) -> None:
    """Write a table as `results.parquet` and `results.csv`, whole or not at all.

    A table of another format of this package in their place stays, under a name that ends with its
    format, such as `results-format-1.parquet`; what is no table of this package, as
    `results-other.parquet`.

    Raises:
        UserError: The folder cannot be written.
    """
    parquet, csv = folder / PARQUET, folder / CSV
    _keep_other_format(folder)
    table = pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False)
    table = table.replace_schema_metadata(_SCHEMA.metadata)
    with written_aside(parquet) as parquet_aside, written_aside(csv) as csv_aside:
        pq.write_table(table, parquet_aside)
        write_csv(table, csv_aside)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Args:
        path: `results.parquet`, or the folder that it lies in.

    Raises:
        UserError: It is missing, damaged, no table of this package, or one of another format.
    """
    if path.is_dir():
        path = path / PARQUET
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a table of results, {PARQUET}.")
    anew = "Make it anew from the folders of the runs"
    try:
        schema = pq.read_schema(path)
        found = _format_of(schema)
        if found is None:
            raise UserError(f"{path} is no table of results of this package. {anew}.")
        if found != TABLE_FORMAT:
            raise UserError(
                f"{path} has the table format {found}, expected {TABLE_FORMAT}: another version of "
                f"this package wrote it. {anew}, or read it with that version."
            )
        if not schema.equals(_SCHEMA):
            raise UserError(f"{path} has other columns than a table of results. {anew}.")
        frame = pq.read_table(path).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        why = shortened(printable(in_one_line(error)))
        raise UserError(f"{path} cannot be read ({why}). {anew}.") from error
    return frame.astype({"env_steps": "Int64"})


def _stage(run: FoundRun, stage: str) -> pd.DataFrame:
    """The rows of one stage of a run."""
    cells = list(_cells(run, stage))
    columns = ["env", "step", "env_steps", "metric", "value", "dataset", "fingerprint"]
    frame = pd.DataFrame(cells, columns=columns)
    if frame.empty:
        return frame
    record = run.record
    environment = frame.pop("env")
    frame["study"] = printable(record.study)
    frame["variant"] = printable(record.variant)
    frame["task"] = printable(record.task) or environment
    frame["seed"] = record.seed
    frame["stage"] = stage
    frame["version"] = printable(record.version or _version_of(run.folder / stage))
    frame["git_revision"] = printable(record.git_revision or "")
    return frame[list(COLUMNS)].astype({"env_steps": "Int64", "value": "float64"})


def _cells(run: FoundRun, stage: str) -> Iterator[tuple[object, ...]]:
    file = run.folder / stage / "metrics.csv"
    try:
        header, rows, lost = parse_log(file.read_bytes())
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning(f"{file} cannot be read ({error.strerror}); the table is without it.")
        return
    # A run that goes on may be writing its last row.
    if lost and run.record.state != "running":
        _log.warning(f"{file} is damaged: {lost} of its rows are not in the table.")
    metrics = [(name, printable(name)) for name in header if name not in _NO_METRICS]
    for row in rows:
        environment, *dataset = (
            printable(row.get(n, "")) for n in ("env", "dataset", "fingerprint")
        )
        step, env_steps = int(row["step"]), row.get("env_steps", "")
        counted = int(env_steps) if _COUNT.fullmatch(env_steps) else None
        for column, metric in metrics:
            value = _number(row[column])
            if value is not None:
                yield environment, step, counted, metric, value, *dataset


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return None


def _version_of(stage: Path) -> str:
    """The version that wrote a stage's last checkpoint; empty if none can be read."""
    try:
        return read_checkpoint(stage / "checkpoints" / LAST).header.version
    except UserError:
        return ""


def _format_of(schema: pa.Schema) -> int | None:
    """The format of a table of this package; None if it is another file."""
    found = (schema.metadata or {}).get(_FORMAT_KEY, b"")
    return int(found) if found.isdigit() and len(found) < 10 else None


def _keep_other_format(folder: Path) -> None:
    """Rename the table in a folder unless it is of today's format.

    Raises:
        UserError: It cannot be renamed.
    """
    parquet = folder / PARQUET
    if not parquet.exists():
        return
    try:
        found = _format_of(pq.read_schema(parquet))
    except (pa.ArrowException, OSError, ValueError):
        found = None
    if found == TABLE_FORMAT:
        return
    name = "results-other" if found is None else f"results-format-{found}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    ends = [end for end in (".parquet", ".csv") if (folder / f"results{end}").exists()]
    kept = next(n for n in names if not any((folder / f"{n}{end}").exists() for end in ends))
    try:
        for end in ends:
            (folder / f"results{end}").rename(folder / f"{kept}{end}")
    except OSError as error:
        raise UserError(
            f"{parquet} is of another version of this package and cannot be renamed to "
            f"{kept}.parquet ({error.strerror}). Move it, or make the folder writable."
        ) from error
    _log.warning(
        f"{parquet} is of another version of this package, or damaged; it is kept as "
        f"{' and '.join(kept + end for end in ends)}."
    )
