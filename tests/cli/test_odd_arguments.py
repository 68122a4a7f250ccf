"""Unusual ways to write arguments, and unusual places to run in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from commands import ROOT
from pex_lightning.cli.yaml_limits import with_integers
from pex_lightning.errors import UserError
from pex_lightning.files.cache import cache_path


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--trainer.max_steps", "1e6"], ["--trainer.max_steps", "1000000"]),
        (["--data.buffer_size=2.5E+5"], ["--data.buffer_size=250000"]),
        (["--data.buffer_size=1.5e3", "-3e4"], ["--data.buffer_size=1500", "-3e4"]),
        # Not whole, small, or text.
        (["--model.learning_rate", "1e-3"], ["--model.learning_rate", "1e-3"]),
        (["--trainer.limit_train_batches", "1e0"], ["--trainer.limit_train_batches", "1.0"]),
        (["--data.rows", "1.2345e3"], ["--data.rows", "1234.5"]),
        (["--rows=1e4"], ["--rows=10000"]),
        (["--out", "1e6"], ["--out", "1e6"]),
        (["--run.name", "1e6"], ["--run.name", "1e6"]),
        (["--data.path=1e6"], ["--data.path=1e6"]),
        (["--data.env_kwargs", "1e6"], ["--data.env_kwargs", "1e6"]),
    ],
)
def test_whole_numbers_in_scientific_notation_are_integers(
    given: list[str], read: list[str]
) -> None:
    assert with_integers(given) == read


def test_they_are_in_files_too(command, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"base: [{ROOT}/conf/pointmaze.yaml]\n"
        "trainer: {max_steps: 1e6, limit_train_batches: 1.0}\n"
        "data: {init_args: {buffer_size: 2e5, env_kwargs: {max_episode_steps: 2e3}}}\n"
    )
    outcome = command("fit", "--config", str(path), "--print_config")
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load(outcome.out)
    assert found["trainer"]["max_steps"] == 1_000_000
    assert repr(found["trainer"]["limit_train_batches"]) == "1.0"
    assert repr(found["data"]["init_args"]["buffer_size"]) == "200000"
    assert repr(found["data"]["init_args"]["env_kwargs"]) == "{'max_episode_steps': 2000.0}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model.class_path", "os.system"], "--model.class_path is os.system, expected a subc"),
        (["--data.class_path=os.system"], "subclass of OfflineData: OfflineData, OnlineData"),
        (["--offline.model.class_path", "os.system"], "--offline.model.class_path is os.system"),
        (["--trainer.callbacks", "[{class_path: os.system}]"], "expected a subclass of Callback."),
        (["--model.class_path", "Nothing"], "--model Nothing: there is no such class"),
        (["--model", "no_module.Mine"], "--model no_module.Mine: No module named 'no_module'"),
        (["--offline.model", "json.Mine"], "module 'json' has no attribute 'Mine'"),
        (["--data.buffer_size", "1.5"], "--data.buffer_size is '1.5', expected int"),
        (["--run.threads", "two"], "--run.threads is 'two', expected int or null."),
        (["--data.rows", "lots"], "--data.rows is 'lots', expected int or null."),
        (["--trainer.gradient_clip_val", "big"], "is 'big', expected int or float or null."),
        (["--model.class_path", "5"], "--model 5: there is no such class"),
        (["--trainer.callbacks", "3"], "there is no such class. Give the full path of a class."),
        (["--model.hidden_dims", "a"], "--model.hidden_dims is 'a', expected list."),
        (["--data.rows="], "--data.rows is '', expected int or null."),
        (["--evaluation", "null"], "--evaluation is 'null', expected a group of settings"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(
    arguments: list[str], says: str, command, refused
) -> None:
    outcome = command("fit", "--config", "conf/pointmaze.yaml", *arguments)
    refused(outcome, says)
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["data", "list"], ["--help"], ["data", "list", "--json"]])
def test_a_reader_that_closes_early_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "pex_lightning", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert process.returncode == 128 + signal.SIGPIPE
    assert process.stderr == ""


def test_without_a_home_the_variable_that_helps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(UserError, match=r"no home folder .* XDG_CACHE_HOME, or HOME"):
        cache_path("made")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_path("made") == Path("/somewhere/pex-lightning/made")


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_and_ends(
    command, tiny, wait_for, tmp_path: Path
) -> None:
    args = tiny(tmp_path, "--trainer.max_steps=100000", config="conf/iql/pointmaze.yaml")
    process = command.start(*args)
    last = tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt"
    wait_for(last.exists, process)
    # The terminal is gone: nobody reads what is written.
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    process.stdout.close()
