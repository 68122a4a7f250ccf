"""What a study leaves behind: the table of all metrics, and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pex_lightning.files.atomic import written_aside
from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.records import FoundRun
from pex_lightning.studies.settings import StudySettings
from pex_lightning.studies.summary import summary
from pex_lightning.studies.table import collect, write_table

SUMMARY = "summary.md"


def write_results(folder: Path, settings: StudySettings, runs: Sequence[PlannedRun]) -> None:
    """Write `results.parquet`, `results.csv` and `summary.md` of a study's runs.

    Raises:
        UserError: The folder cannot be written.
    """
    found = [FoundRun(run.folder, run.record) for run in runs]
    frame = collect(found)
    write_table(folder, frame)
    text = summary(found, frame, threshold=settings.threshold, reference=settings.reference)
    with written_aside(folder / SUMMARY) as aside:
        aside.write_text(text, encoding="utf-8")
