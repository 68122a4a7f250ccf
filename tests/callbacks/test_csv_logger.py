import csv
from pathlib import Path

import pytest

from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.errors import UserError


def read(folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows, without the time."""
    with (folder / "metrics.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [{name: row[name] for name in row if name != "seconds"} for row in reader]
    return [name for name in reader.fieldnames or [] if name != "seconds"], rows


def seconds(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in read(folder)[1]]


def test_a_row_a_step_and_a_column_a_metric_written_at_once(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"eval/return": 1.5}, 0)
    assert read(tmp_path) == (["step", "eval/return"], [{"step": "0", "eval/return": "1.5"}])
    logger.log_metrics({"train/loss": 0.25}, 10)
    logger.log_metrics({"eval/return": 2.0, "env_steps": 30}, 10)
    logger.log_metrics({"train/loss": 0.5}, 20)
    columns, rows = read(tmp_path)
    assert columns == ["step", "eval/return", "train/loss", "env_steps"]
    assert [list(row.values()) for row in rows] == [
        ["0", "1.5", "", ""],
        ["10", "2.0", "0.25", "30"],
        ["20", "", "0.5", ""],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


class Clock:
    """Stands in for `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_time_runs_on_over_a_resume_without_what_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("pex_lightning.callbacks.csv_logger.time", clock)
    logger = MetricsCSV(tmp_path)
    for step in (0, 10, 20):
        clock.now += 1.5
        logger.log_metrics({"a": 1.0}, step)
    clock.now = 7.0
    logger = MetricsCSV(tmp_path, resume_step=10)
    clock.now += 0.25
    logger.log_metrics({"a": 1.0}, 20)
    assert steps(tmp_path) == [0, 10, 20]
    assert seconds(tmp_path) == [1.5, 3.0, 3.25]


@pytest.mark.parametrize("cell", ["-1", "nan", "soon", "1e999"])
def test_a_file_without_time_is_resumed_without(tmp_path: Path, cell: str) -> None:
    (tmp_path / "metrics.csv").write_text("step,a\n10,1.0\n")
    MetricsCSV(tmp_path, resume_step=10).log_metrics({"a": 2.0}, 20)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,a", "10,1.0", "20,2.0"]
    (tmp_path / "metrics.csv").write_text(f"step,seconds\n10,{cell}\n")
    MetricsCSV(tmp_path, resume_step=10).log_metrics({"a": 2.0}, 20)
    rows = (tmp_path / "metrics.csv").read_text().split()
    assert rows == ["step,seconds,a", f"10,{cell},", "20,,2.0"]


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    MetricsCSV(tmp_path).log_metrics({"x": value}, 1)
    assert float(read(tmp_path)[1][0]["x"]) == value


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"old": 1.0}, 5)
    MetricsCSV(tmp_path).log_metrics({"new": 1.0}, 1)
    assert read(tmp_path) == (["step", "new"], [{"step": "1", "new": "1.0"}])


def test_a_resumed_run_keeps_rows_up_to_its_step(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    for step in (0, 10, 20, 30):
        first.log_metrics({"a": step / 10}, step)
    resumed = MetricsCSV(tmp_path, resume_step=20)
    assert steps(tmp_path) == [0, 10, 20, 30]
    resumed.log_metrics({"b": 9.0}, 20)
    resumed.log_metrics({"a": 2.5}, 25)
    columns, rows = read(tmp_path)
    assert columns == ["step", "a", "b"]
    assert [list(row.values()) for row in rows] == [
        ["0", "0.0", ""],
        ["10", "1.0", ""],
        ["20", "2.0", "9.0"],
        ["25", "2.5", ""],
    ]


def test_resuming_without_a_file_or_with_a_broken_one_starts_anew(tmp_path: Path) -> None:
    MetricsCSV(tmp_path, resume_step=20).log_metrics({"a": 1.0}, 30)
    assert steps(tmp_path) == [30]
    (tmp_path / "metrics.csv").write_text("")
    MetricsCSV(tmp_path, resume_step=20).log_metrics({"a": 1.0}, 30)
    assert steps(tmp_path) == [30]
    (tmp_path / "metrics.csv").write_text("step,a\n10,1.0\nnonsense\n,\n20")
    MetricsCSV(tmp_path, resume_step=20).log_metrics({"a": 1.0}, 30)
    assert steps(tmp_path) == [10, 30]


def test_a_damaged_file_is_kept_beside_what_can_be_read_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = b'step,a\r\n1,0.5\r\n2,\xff\r\n3,\0\r\n"4,1\r\n5,0.7\r\n6\r\nx,1\r\n7,0.1'
    (tmp_path / "metrics.csv").write_bytes(damaged)
    MetricsCSV(tmp_path, resume_step=9).log_metrics({"a": 1.0}, 10)
    assert steps(tmp_path) == [1, 5, 10]
    assert (tmp_path / "metrics-damaged-1.csv").read_bytes() == damaged
    assert "2 of its 8 rows can be read" in caplog.text
    assert "metrics-damaged-1.csv" in caplog.text
    (tmp_path / "metrics.csv").write_bytes(b"step,step\r\n1,2\r\n")
    MetricsCSV(tmp_path, resume_step=9).log_metrics({"a": 1.0}, 10)
    assert steps(tmp_path) == [10]
    assert (tmp_path / "metrics-damaged-2.csv").exists()


def test_an_undamaged_file_is_not_kept_twice(tmp_path: Path) -> None:
    constants = {"dataset": 'of, "many" words'}
    MetricsCSV(tmp_path, constants=constants).log_metrics({"a": 1.0}, 1)
    MetricsCSV(tmp_path, 1, constants).log_metrics({"b": 1.0}, 2)
    assert steps(tmp_path) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_folder_in_its_place_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(UserError, match="is not a file"):
        MetricsCSV(tmp_path, resume_step=9)


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": 1.0}, 1)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pex_lightning.files.atomic.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"new": 1.0}, 2)
    assert read(tmp_path) == (["step", "a"], [{"step": "1", "a": "1.0"}])
