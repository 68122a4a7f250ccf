from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pex_lightning.errors import UserError
from pex_lightning.studies.outcomes import outcomes
from pex_lightning.studies.records import RECORD, find_runs
from pex_lightning.studies.table import COLUMNS, collect, read_table, write_table

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "format_1" / "online" / "last.ckpt"


def test_one_row_for_each_metric(make_run: Any) -> None:
    run = make_run("pex", 2, git_revision="abc1234", version="0.9")
    frame = collect([run])
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2 + 1 + 3 + 1
    last = frame[(frame["stage"] == "online") & (frame["metric"] == "eval/score")].iloc[-1]
    assert last.to_dict() == {
        "study": "demo",
        "variant": "pex",
        "task": "toy",
        "seed": 2,
        "stage": "online",
        "step": 20,
        "env_steps": 2_000,
        "metric": "eval/score",
        "value": 90.0,
        "dataset": "made:toy",
        "fingerprint": "f00d",
        "version": "0.9",
        "git_revision": "abc1234",
    }


def test_a_table_is_read_as_it_was_written(make_run: Any, tmp_path: Path) -> None:
    run = make_run("pex")
    file = run.folder / "offline" / "metrics.csv"
    file.write_text(file.read_text().replace("env_steps", "unknown"))
    frame = collect([run, make_run("direct", 1)])
    write_table(tmp_path, frame)
    pd.testing.assert_frame_equal(read_table(tmp_path), frame)
    pd.testing.assert_frame_equal(read_table(tmp_path / "results.parquet"), frame)
    csv = pd.read_csv(tmp_path / "results.csv", dtype={"env_steps": "Int64"}, keep_default_na=False)
    assert list(csv.columns) == list(COLUMNS)
    assert csv["value"].tolist() == frame["value"].tolist()
    assert outcomes(read_table(tmp_path)) == outcomes(frame)


def test_a_table_of_no_runs(tmp_path: Path) -> None:
    write_table(tmp_path, collect([]))
    assert read_table(tmp_path).empty
    assert outcomes(read_table(tmp_path)) == []


def test_a_run_that_belongs_to_no_study(make_run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    make_run("pex").folder.rename(folder)
    (folder / RECORD).unlink()
    (folder / "online" / "config.yaml").touch()
    (folder / "online" / "checkpoints").mkdir()
    shutil.copy(CHECKPOINT, folder / "online" / "checkpoints" / "last.ckpt")
    frame = collect(find_runs([folder]))
    assert set(frame["variant"]) == {"mine"}
    assert set(frame["task"]) == {"Toy-v0"}
    versions = frame.groupby("stage")["version"].unique()
    # Of the offline stage there is no checkpoint.
    assert [list(versions[stage]) for stage in ("offline", "online")] == [[""], ["0.1.0"]]


def test_two_folders_of_one_run_are_refused(make_run: Any, tmp_path: Path) -> None:
    run = make_run("pex")
    copy = tmp_path / "copy"
    run.folder.rename(copy)
    runs = [*find_runs([copy]), make_run("pex")]
    with pytest.raises(UserError, match=r"copy and .* are both the run pex with seed 0 on toy"):
        collect(runs)


def test_names_of_folders_that_are_no_text(make_run: Any, tmp_path: Path) -> None:
    odd = tmp_path / "odd\udcff|\n"
    make_run("pex").folder.rename(odd)
    (odd / RECORD).unlink()
    (odd / "offline" / "config.yaml").touch()
    frame = collect(find_runs([odd]))
    write_table(tmp_path, frame)
    assert set(read_table(tmp_path)["variant"]) == {"odd\ufffd|\ufffd"}


def test_no_disk_space_leaves_the_older_table(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path, collect([make_run("pex")]))
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pex_lightning.studies.table.write_csv", full)
    with pytest.raises(UserError, match=r"results\.csv: could not be written \(No space left"):
        write_table(tmp_path, collect([make_run("direct")]))
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def of_format(folder: Path, number: str | None, make_run: Any) -> None:
    """Write a table, and change the number of its format."""
    write_table(folder, collect([make_run("pex")]))
    path = folder / "results.parquet"
    table = pq.read_table(path)
    metadata = {} if number is None else {"pex_lightning_table_format": number}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_a_table_of_another_version_is_refused(make_run: Any, tmp_path: Path) -> None:
    of_format(tmp_path, "0", make_run)
    with pytest.raises(UserError, match="has the table format 0, expected 1: another version"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("number", "name"),
    [("0", "results-format-0"), ("7", "results-format-7"), (None, "results-other")],
)
def test_a_table_of_another_version_is_kept(
    number: str | None, name: str, make_run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = (".parquet", ".csv")
    kept = []
    for suffix in ("", "-2"):
        of_format(tmp_path, number, make_run)
        before = [(tmp_path / f"results{end}").read_bytes() for end in ends]
        with caplog.at_level(logging.WARNING):
            write_table(tmp_path, collect([make_run("direct")]))
        assert f"kept as {name}{suffix}.parquet and {name}{suffix}.csv" in caplog.text
        assert set(read_table(tmp_path)["variant"]) == {"direct"}
        kept.append(before)
    for suffix, before in zip(("", "-2"), kept, strict=True):
        assert [(tmp_path / f"{name}{suffix}{end}").read_bytes() for end in ends] == before


def test_a_table_of_this_version_is_replaced(make_run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    write_table(folder, collect([make_run("pex")]))
    write_table(folder, collect([make_run("direct")]))
    assert {path.name for path in folder.iterdir()} == {"results.parquet", "results.csv"}
    assert set(read_table(folder)["variant"]) == {"direct"}


def test_no_table_is_refused(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path)
    of_format(tmp_path, None, make_run)
    with pytest.raises(UserError, match="is no table of results"):
        read_table(tmp_path)
    path = tmp_path / "results.parquet"
    write_table(tmp_path, collect([make_run("pex")]))
    pq.write_table(pq.read_table(path).drop_columns(["study"]), path)
    with pytest.raises(UserError, match="has other columns"):
        read_table(tmp_path)
