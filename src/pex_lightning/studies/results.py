"""What a study leaves behind: the table of all results, and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pex_lightning.studies.plan import PlannedRun
from pex_lightning.studies.settings import StudySettings


def write_results(folder: Path, settings: StudySettings, runs: Sequence[PlannedRun]) -> None:
    """Write."""
