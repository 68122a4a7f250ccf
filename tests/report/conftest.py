"""A page about a study, the command line, and a run that takes seconds."""

from pathlib import Path

import pytest

from commands import cache, command, finished, refused, tiny, wait_for
from pex_lightning.report.page import write_report
from pex_lightning.studies.records import find_runs
from report.runs import write_study

__all__ = ["cache", "command", "finished", "refused", "tiny", "wait_for"]


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, `report.html` and its `figures`; treat it as read-only."""
    folder = tmp_path_factory.mktemp("report")
    study = write_study(folder)
    write_report(find_runs([study]), folder / "report.html", folder / "figures", threshold=60)
    return folder
