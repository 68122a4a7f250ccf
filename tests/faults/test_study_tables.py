"""Metrics and tables of studies that are damaged: what can be read is, and nothing is lost."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from mutations import SEED_NAMES, SEEDS, attempt, mutated
from pex_lightning.errors import UserError
from pex_lightning.studies.outcomes import outcomes
from pex_lightning.studies.records import FoundRun, RunRecord, read_record, write_record
from pex_lightning.studies.summary import summary
from pex_lightning.studies.table import collect, read_table, write_table

METRICS = "step,dataset,fingerprint,env,d4rl_score,eval/score,env_steps\n" + "".join(
    f"{step},made:toy,f00d,Toy-v0,false,{step / 2},{10 * step}\n" for step in range(0, 100, 10)
)


@pytest.fixture
def run(tmp_path: Path) -> FoundRun:
    record = RunRecord("demo", "pex", "toy", 0, state="finished", version="0.1.0")
    (tmp_path / "run" / "online").mkdir(parents=True)
    (tmp_path / "run" / "online" / "metrics.csv").write_text(METRICS)
    return FoundRun(tmp_path / "run", record)


def test_of_damaged_metrics_the_whole_rows_are_taken(
    run: FoundRun, caplog: pytest.LogCaptureFixture
) -> None:
    file = run.folder / "online" / "metrics.csv"
    file.write_bytes(METRICS.encode().replace(b"\n20,", b"\n\xff,")[:-2])
    with caplog.at_level(logging.WARNING):
        frame = collect([run])
    assert frame["step"].tolist() == [0, 10, *range(30, 90, 10)]
    assert f"{file} is damaged: 2 of its rows are not in the table." in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="a folder in a file's place reads differently there")
def test_metrics_that_are_a_folder_are_said(
    run: FoundRun, caplog: pytest.LogCaptureFixture
) -> None:
    file = run.folder / "online" / "metrics.csv"
    file.unlink()
    file.mkdir()
    with caplog.at_level(logging.WARNING):
        assert collect([run]).empty
    assert f"{file} cannot be read" in caplog.text


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [15, pytest.param(1_000, marks=pytest.mark.long)])
def test_damaged_metrics_never_raise(run: FoundRun, tmp_path: Path, count: int, seed: int) -> None:
    file = run.folder / "online" / "metrics.csv"
    for damaged in mutated(METRICS.encode(), count, seed, head=200):
        file.write_bytes(damaged)
        frame = collect([run])
        write_table(tmp_path, frame)
        # As texts, in which NaN is itself.
        assert str(outcomes(read_table(tmp_path), 10.0)) == str(outcomes(frame, 10.0))
        summary([run], threshold=10.0)


@pytest.mark.parametrize(
    "cell", ["9" * 5_000, "9" * 10**6, "1e999", "9" * 16, "-1", "\u0663", "0x1"]
)
def test_odd_numbers_in_metrics(run: FoundRun, tmp_path: Path, cell: str) -> None:
    file = run.folder / "online" / "metrics.csv"
    file.write_text(METRICS.replace("45.0,900", f"{cell},{cell}"))
    frame = collect([run])
    write_table(tmp_path, frame)
    assert read_table(tmp_path)["env_steps"].isna().sum() == (1 if len(frame) == 10 else 0)
    summary([run], threshold=10.0)


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [100, pytest.param(5_000, marks=pytest.mark.long)])
def test_a_damaged_table_is_refused_in_a_sentence(
    run: FoundRun, tmp_path: Path, count: int, seed: int
) -> None:
    write_table(tmp_path, collect([run]))
    path = tmp_path / "results.parquet"
    messages = []
    for damaged in mutated(path.read_bytes(), count, seed):
        path.write_bytes(damaged)
        messages.append(attempt(read_table, path)[1])
    refused = [message for message in messages if message is not None]
    assert len(refused) > count / 2
    for message in refused:
        assert "Make it anew" in message
        assert len(message.splitlines()) == 1


def test_a_damaged_table_is_kept(run: FoundRun, tmp_path: Path) -> None:
    write_table(tmp_path, collect([run]))
    path = tmp_path / "results.parquet"
    path.write_bytes(damaged := path.read_bytes()[:-10])
    write_table(tmp_path, collect([run]))
    assert (tmp_path / "results-other.parquet").read_bytes() == damaged
    assert len(read_table(tmp_path)) == 10


def test_a_table_in_a_folder_that_cannot_be_written(run: FoundRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written to"):
        write_table(tmp_path / "missing", collect([run]))


@pytest.mark.parametrize(
    "field", ['"reason": 5', '"version": ["x"]', '"seed": 1e400', f'"seed": {2**70}']
)
def test_records_with_odd_values_are_refused(run: FoundRun, field: str) -> None:
    write_record(run.folder, run.record)
    name = field.partition(":")[0]
    file = run.folder / "run.json"
    lines = [f"  {field}," if name in line else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    with pytest.raises(UserError, match="is damaged"):
        read_record(run.folder)


def test_texts_of_runs_mean_nothing_to_markdown(run: FoundRun) -> None:
    evil = "<script>alert(1)</script> [x](javascript:y) | `a`\n# title\x1b[31m"
    record = RunRecord("demo", evil, "toy", 1, state="failed", reason=evil)
    finished = FoundRun(run.folder, RunRecord(evil, evil, evil, 0, state="finished", version=evil))
    text = summary([finished, FoundRun(run.folder / "other", record)])
    assert "<script" not in text
    assert "[x](" not in text
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line.startswith("# title")] == []
