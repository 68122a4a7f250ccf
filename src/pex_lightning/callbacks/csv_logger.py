"""`metrics.csv`: one row a step, kept whole over a resume."""

from __future__ import annotations

import csv
import itertools
import logging
import re
import shutil
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import remove_leftovers, replaced

_log = logging.getLogger(__name__)
_STEP = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class MetricsCSV(Logger):
    """Writes `metrics.csv` with `step` (gradient steps) first and a column for each metric.

    `seconds` is the wall time that the stage has run for, evaluations included. A resumed run goes
    on from the last row that it keeps, so neither the time between its attempts nor the time of
    updates that are done again counts. A file of a version that did not measure it stays without.

    Unlike Lightning's CSV logger it keeps an earlier run's rows when a run is resumed, dropping
    those after the step that it resumes from, and has no folders named by version. A damaged file
    does not stop a run: rows that can be read are kept, and the file as it was is kept under the
    name `metrics-damaged-1.csv`, or the next number that is free.

    Args:
        directory: Where `metrics.csv` lies.
        resume_step: The gradient step from which the run goes on; 0 starts a new file.
        constants: Columns that are the same in every row, such as the dataset's name.

    Raises:
        UserError: There is something else than a file in the place of `metrics.csv`.
    """

    def __init__(
        self,
        directory: Path,
        resume_step: int = 0,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._file = directory / "metrics.csv"
        remove_leftovers(self._file)
        self._constants = dict(constants or {})
        self._columns = ["step", "seconds", *self._constants]
        self._began = time.monotonic()
        self._measures_time = True
        self._rows: list[dict[str, Any]] = []
        if resume_step:
            self._read(resume_step)
        self._rewrite = True

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "metrics"

    @property
    def version(self) -> str:
        """Runs have names, not versions."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of `metrics.csv`."""
        return str(self._file.parent)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Hyper-parameters are in the run's `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of `step`; the row is written at once."""
        if self._measures_time:
            metrics = {"seconds": round(time.monotonic() - self._began, 3), **metrics}
        new = [name for name in metrics if name not in self._columns]
        self._columns += new
        if self._rows and int(self._rows[-1]["step"]) == step:
            self._rows[-1].update(metrics)
            self._rewrite = True
        else:
            self._rows.append({"step": step, **self._constants, **metrics})
        self._write(all_rows=bool(new) or self._rewrite)

    def _write(self, all_rows: bool) -> None:
        if not all_rows:
            with self._file.open("a", newline="") as file:
                self._writer(file).writerow(self._rows[-1])
            return
        with replaced(self._file) as aside, aside.open("w", newline="") as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(self._rows)
        self._rewrite = False

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, fieldnames=self._columns, restval="")

    def _read(self, resume_step: int) -> None:
        """Take over the rows up to `resume_step`; a damaged file is kept beside the new one.

        Raises:
            UserError: The file cannot be read, or the damaged one not be kept.
        """
        if not self._file.exists():
            return
        if not self._file.is_file():
            raise UserError(f"{self._file} is not a file, so no metrics can be written. Move it.")
        try:
            header, rows, lost = parse_log(self._file.read_bytes())
            if lost:
                self._keep_damaged(len(rows), lost)
        except OSError as error:
            raise UserError(f"{self._file} cannot be read or kept: {error.strerror}.") from error
        self._rows += [row for row in rows if int(row["step"]) <= resume_step]
        if self._rows:
            self._go_on_measuring(self._rows[-1].get("seconds", ""))
        self._columns = header + [name for name in self._columns if name not in header]

    def _go_on_measuring(self, seconds: str) -> None:
        if _SECONDS.fullmatch(seconds):
            self._began -= float(seconds)
            return
        self._measures_time = False
        self._columns.remove("seconds")

    @rank_zero_only
    def _keep_damaged(self, readable: int, lost: int) -> None:
        folder = self._file.parent
        names = (folder / f"metrics-damaged-{number}.csv" for number in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        with replaced(kept) as aside:
            shutil.copyfile(self._file, aside)
        _log.warning(
            f"{self._file} is damaged: {readable} of its {readable + lost} rows can be read and "
            f"stay in it; as it was, it is kept as {kept}."
        )


def parse_log(content: bytes) -> tuple[list[str], list[dict[str, str]], int]:
    """Read a `metrics.csv`, which may be damaged.

    Each line is read by itself, so that a quote in a damaged one does not swallow the next.

    Returns:
        The columns, the rows that are whole, and the number of rows that are not; without a
        header of a log no row is.
    """
    lines = content.splitlines()
    if content and not content.endswith(b"\n"):
        # A number that was cut off looks like another number.
        lines[-1] = b""
    header, *rows = [_cells(line) for line in lines] or [[]]
    if header[:1] != ["step"] or len(set(header)) < len(header) or "" in header:
        return ["step"], [], len(rows)
    whole = [cells for cells in rows if len(cells) == len(header) and _STEP.fullmatch(cells[0])]
    found = [dict(zip(header, cells, strict=True)) for cells in whole]
    return header, found, len(rows) - len(whole)


def _cells(line: bytes) -> list[str]:
    """The cells of a line; none if it is damaged."""
    try:
        text = line.decode("utf-8")
        cells = next(csv.reader([text], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    return [] if "\0" in text else cells
