"""Runs of studies as they lie on a disk, without training any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pex_lightning.studies.records import FoundRun, RunRecord, write_record

Points = Sequence[tuple[int, int, float]]
"""Gradient steps, environment steps and score of each evaluation."""
MakeRun = Callable[..., FoundRun]


def write_metrics(
    stage: Path, points: Points, metric: str = "eval/score", fingerprint: str = "f00d"
) -> None:
    stage.mkdir(parents=True, exist_ok=True)
    header = f"step,dataset,fingerprint,env,d4rl_score,{metric},env_steps,train/q_loss"
    rows = [
        f"{step},made:toy,{fingerprint},Toy-v0,false,{score},{env_steps},"
        for step, env_steps, score in points
    ]
    training = f"1,made:toy,{fingerprint},Toy-v0,false,,1,0.5"
    (stage / "metrics.csv").write_text("\n".join([header, *rows, training]) + "\n")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run: of the study `demo` unless told otherwise."""

    def make(
        variant: str,
        seed: int = 0,
        *,
        task: str = "toy",
        study: str = "demo",
        offline: Points = ((0, 0, 0.0), (100, 0, 50.0)),
        online: Points = ((0, 0, 50.0), (10, 1000, 70.0), (20, 2000, 90.0)),
        metric: str = "eval/score",
        fingerprint: str = "f00d",
        **record: Any,
    ) -> FoundRun:
        given = RunRecord(study, variant, task, seed, state="finished", version="0.1.0")
        given = replace(given, **record)
        folder = tmp_path / study / given.name
        write_record(folder, given)
        for name, points in (("offline", offline), ("online", online)):
            if points:
                write_metrics(folder / name, points, metric, fingerprint)
        return FoundRun(folder, given)

    return make
