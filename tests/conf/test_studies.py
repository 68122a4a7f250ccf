"""Every shipped study: its runs parse and fit together, and its short version is of the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import cache
from pex_lightning.cli.run_shape import shape_of
from pex_lightning.cli.study import read_study
from pex_lightning.studies.settings import StudySettings

__all__ = ["cache"]

STUDIES = Path(__file__).resolve().parents[2] / "conf" / "studies"
NAMES = sorted(path.stem for path in STUDIES.iterdir())
FULL = [name for name in NAMES if not name.endswith("-quick")]


def settings(name: str) -> StudySettings:
    return read_study(["--config", str(STUDIES / f"{name}.yaml")]).study


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_its_files_name_and_different_runs(name: str) -> None:
    study = settings(name)
    assert study.name == name
    runs = study.runs()
    assert len({run.arguments for run in runs}) == len(runs)


@pytest.mark.slow
@pytest.mark.parametrize("pairs", ["first", pytest.param("all", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FULL)
def test_runs_of_a_study_would_start(name: str, pairs: str) -> None:
    study = settings(name)
    task, variant = next(iter(study.tasks)), next(iter(study.variants))
    for run in study.runs():
        # Each task with one variant and each variant on one task, or all of them with each other.
        if run.seed == 0 and (pairs == "all" or run.task == task or run.variant == variant):
            shape = shape_of(list(run.arguments))
            assert shape.offline_steps + shape.online_steps > 0


@pytest.mark.parametrize("name", [name for name in FULL if f"{name}-quick" in NAMES])
def test_the_short_version_is_of_the_same_and_shorter(name: str) -> None:
    full, quick = settings(name), settings(f"{name}-quick")
    assert set(quick.variants) <= set(full.variants)
    assert set(quick.tasks) == set(full.tasks)
    assert len(quick.seeds) <= len(full.seeds)
    assert quick.threshold == full.threshold
    shorter = quick.set != full.set or quick.tasks != full.tasks
    assert shorter or len(quick.seeds) < len(full.seeds)
