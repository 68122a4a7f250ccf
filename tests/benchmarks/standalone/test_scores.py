from __future__ import annotations

from pathlib import Path

from benchmarks.standalone.scores import Scores, scores


def write(stage: Path, *rows: tuple[int, float]) -> None:
    stage.mkdir(parents=True)
    lines = ["step,eval/score", *(f"{step},{score}" for step, score in rows)]
    (stage / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_a_run_of_both_stages(tmp_path: Path) -> None:
    write(tmp_path / "offline", (0, 1.0), (100, 50.0))
    write(tmp_path / "online", (0, 40.0), (2_000, 30.0), (12_000, 20.0), (14_000, 90.0))
    assert scores(tmp_path) == Scores(50.0, 30.0, 90.0)


def test_an_offline_stage_alone_ends_with_its_last_evaluation(tmp_path: Path) -> None:
    write(tmp_path / "offline", (0, 1.0), (100, 50.0))
    assert scores(tmp_path) == Scores(50.0, 50.0, 50.0)


def test_a_run_from_nothing_begins_with_its_first_evaluation(tmp_path: Path) -> None:
    write(tmp_path / "online", (0, 4.0), (2_000, 3.0), (4_000, 9.0))
    assert scores(tmp_path) == Scores(4.0, 3.0, 9.0)
