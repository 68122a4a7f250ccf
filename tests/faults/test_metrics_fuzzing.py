"""Logs with random damage: a resumed run goes on with what can be read, and nothing is lost."""

import csv
import time
from pathlib import Path

import pytest

from mutations import SEED_NAMES, SEEDS, mutated
from pex_lightning.callbacks.csv_logger import MetricsCSV


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [30, pytest.param(3_000, marks=pytest.mark.long)])
def test_a_damaged_log_is_gone_on_with(tmp_path: Path, count: int, seed: int) -> None:
    whole = MetricsCSV(tmp_path, constants={"dataset": "maze, large"})
    for step in range(0, 200, 10):
        whole.log_metrics({"train/loss": 1.0 / (step + 1), "eval/return": step * 1.5}, step)
    file = tmp_path / "metrics.csv"
    content = file.read_bytes()
    for number, damaged in enumerate(mutated(content, count, seed, head=200)):
        for path in tmp_path.iterdir():
            path.unlink()
        file.write_bytes(damaged)
        begin = time.monotonic()
        resumed = MetricsCSV(tmp_path, 1_000, {"dataset": "maze, large"})
        resumed.log_metrics({"train/loss": 0.5}, 1_001)
        resumed.log_metrics({"train/loss": 0.5}, 1_002)
        assert time.monotonic() - begin < 5, number
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        assert [row["step"] for row in rows][-2:] == ["1001", "1002"], number
        kept = tmp_path / "metrics-damaged-1.csv"
        assert not kept.exists() or kept.read_bytes() == damaged, number


@pytest.mark.parametrize(
    "damaged",
    [
        b"step,a\r\n1," + b"9" * 10**7 + b"\r\n2,1.0\r\n",
        b"step,a\r\n" + b"9" * 5_000 + b",1.0\r\n2,1.0\r\n",
        b'step,a\r\n"\r\n2,1.0\r\n',
        b"step,a\r\n\0\0\0\r\n2,1.0\r\n",
        b"step,a\r\n" + b"," * 10**6 + b"\r\n2,1.0\r\n",
    ],
    ids=["a huge cell", "a huge step", "a quote", "zero bytes", "many cells"],
)
def test_lines_that_are_not_rows_are_left_out(tmp_path: Path, damaged: bytes) -> None:
    file = tmp_path / "metrics.csv"
    file.write_bytes(damaged)
    MetricsCSV(tmp_path, 5).log_metrics({"a": 3.0}, 6)
    assert file.read_text().split() == ["step,a", "2,1.0", "6,3.0"]
    assert (tmp_path / "metrics-damaged-1.csv").read_bytes() == damaged
