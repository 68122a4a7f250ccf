"""The page on a run's folder names every file, column and entry."""

import csv
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from pex_lightning.callbacks.loggers import LoggerName

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "follow-a-run.md").read_text()
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE))


@pytest.mark.slow
def test_every_file_column_and_entry_is_on_the_page(finished: Path) -> None:
    found = json.loads((finished / "provenance.json").read_text())
    assert {*found} - {"format"} <= NAMED
    assert {*found["attempts"][0]} <= NAMED
    for stage in ("offline", "online"):
        with (finished / stage / "metrics.csv").open(newline="") as file:
            columns = next(csv.reader(file))
        shared = [name for name in columns if not name.startswith("train/") and name.count("/") < 2]
        assert set(shared) <= NAMED
        for path in (finished / stage).iterdir():
            name = path.name if path.is_file() else f"{path.name}/"
            if name.startswith("events"):
                name = "events.out.tfevents.*"
            assert {name, f"<stage>/{name}", f"{stage}/{name}"} & NAMED, name


def test_every_logger_is_on_the_page() -> None:
    assert [name for name in get_args(LoggerName) if f"\n| `{name}` |" not in PAGE] == []
