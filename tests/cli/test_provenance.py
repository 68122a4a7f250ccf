"""What a run's folder says of how it came to be."""

import csv
import datetime
import importlib.metadata
import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from lightning_utilities.core.imports import RequirementCache

from pex_lightning.callbacks.loggers import LoggerName
from pex_lightning.cli import provenance
from pex_lightning.version import __version__


def read(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "provenance.json").read_text())
    return content


@pytest.mark.slow
def test_a_run_says_what_made_it(finished: Path) -> None:
    found = read(finished)
    stage = json.loads((finished / "offline" / "stage.json").read_text())
    assert found["fingerprint"] == stage["depends_on"]["data"]["fingerprint"]
    assert (found["run"], found["seed"], found["dataset"]) == ("tiny", 0, "made:pointmaze-medium")
    (attempt,) = found["attempts"]
    assert attempt["command"][:4] == ["pex-lightning", "fit", "--config", "conf/pointmaze.yaml"]
    begin, end = (datetime.datetime.fromisoformat(attempt[key]) for key in ("started", "ended"))
    assert begin <= end
    assert (attempt["exit_code"], attempt["error"], attempt["resumed_from"]) == (0, None, None)
    assert attempt["version"] == __version__
    assert attempt["packages"]["torch"] == importlib.metadata.version("torch")
    assert attempt["host"] == socket.gethostname()
    assert attempt["cpu"]
    assert isinstance(attempt["gpus"], list)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config == yaml.safe_load((finished / "online" / "config.yaml").read_text())


@pytest.mark.slow
def test_attempts_follow_each_other_and_failures_are_noted(
    command, tiny, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "tiny")
    monkeypatch.setattr("pex_lightning.cli.fit.Run._run_stage", fail)
    with pytest.raises(RuntimeError):
        command(*tiny(tmp_path, "--ckpt_path=last", "--trainer.max_steps=60"))
    first, second = read(tmp_path / "tiny")["attempts"]
    assert first == read(finished)["attempts"][0]
    assert second["resumed_from"] == str(tmp_path / "tiny/online/checkpoints/last.ckpt")
    assert (second["exit_code"], second["error"]) == (1, "RuntimeError: the disk melted")
    with pytest.raises(RuntimeError):
        command(*tiny(tmp_path, "--run.overwrite=true"))
    (only,) = read(tmp_path / "tiny")["attempts"]
    assert only["resumed_from"] is None


def fail(*args: object) -> None:
    raise RuntimeError("the disk melted")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": 2, "attempts": []}', "[" * 9_000]
)
def test_a_damaged_record_is_told_and_begins_anew(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "provenance.json"
    assert provenance._earlier(path) == []
    assert not caplog.text
    path.write_text(content)
    assert provenance._earlier(path) == []
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (ValueError(), 1)]
)
def test_exit_codes_are_those_of_the_command_line(error: BaseException, code: int) -> None:
    assert provenance._exit_code(error) == code


def test_a_logger_of_one_stage_alone_is_refused(command, tiny, refused, tmp_path: Path) -> None:
    own = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    refused(command(*tiny(tmp_path, *own)), "--trainer.logger", "--run.loggers")
    refused(command(*tiny(tmp_path, "--trainer.logger=false")), "--run.loggers")
    refused(command(*tiny(tmp_path, "--run.loggers=[csv,comet]")), "--run.loggers", "comet")
    assert not list(tmp_path.iterdir())


def test_a_logger_whose_package_is_missing_is_refused_in_one_line(
    command, tiny, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = RequirementCache("no-such-package>=1")
    monkeypatch.setattr("pytorch_lightning.loggers.wandb._WANDB_AVAILABLE", missing)
    outcome = command(*tiny(tmp_path, "--trainer.logger=WandbLogger"))
    refused(outcome, "WandbLogger cannot be built", "pip install")
    assert len(outcome.err.splitlines()) == 1


PAGE = Path(__file__).resolve().parents[2] / "docs" / "follow-a-run.md"


@pytest.mark.slow
def test_every_file_column_and_entry_is_on_the_page(finished: Path) -> None:
    named = set(re.findall(r"`([^`\n]+)`", PAGE.read_text()))
    found = read(finished)
    assert {*found} - {"format"} <= named
    assert {*found["attempts"][0]} <= named
    for stage in ("offline", "online"):
        with (finished / stage / "metrics.csv").open(newline="") as file:
            columns = next(csv.reader(file))
        shared = [name for name in columns if not name.startswith("train/") and name.count("/") < 2]
        assert set(shared) <= named
        for path in (finished / stage).iterdir():
            name = path.name if path.is_file() else f"{path.name}/"
            if name.startswith("events"):
                name = "events.out.tfevents.*"
            assert {name, f"<stage>/{name}", f"{stage}/{name}"} & named, name


def test_every_logger_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for name in get_args(LoggerName) if f"\n| `{name}` |" not in page] == []
