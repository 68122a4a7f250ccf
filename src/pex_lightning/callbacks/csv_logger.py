"""`metrics.csv`: one row a step, kept whole over a resume."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.files.atomic import remove_leftovers, replaced


class MetricsCSV(Logger):
    """Writes `metrics.csv` with `step` (gradient steps) first and a column for each metric.

    Unlike Lightning's CSV logger it keeps an earlier run's rows when a run is resumed, dropping
    those after the step that it resumes from, and has no folders named by version.

    Args:
        directory: Where `metrics.csv` lies.
        resume_step: The gradient step from which the run goes on; 0 starts a new file.
        constants: Columns that are the same in every row, such as the dataset's name.
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
        self._columns = ["step", *self._constants]
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
        if not self._file.exists():
            return
        with self._file.open(newline="") as file:
            reader = csv.DictReader(file)
            found = list(reader.fieldnames or ["step"])
            self._columns = found + [name for name in self._constants if name not in found]
            rows = [row for row in reader if (row.get("step") or "").isdigit()]
        self._rows = [row for row in rows if int(row["step"]) <= resume_step]
