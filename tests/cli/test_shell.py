"""What helps who types: refused abbreviations, suggestions, short help, completion."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pex_lightning.cli.fit_help import SHORT
from pex_lightning.cli.suggestions import known_keys, meant_by

IQL = ("fit", "--config=conf/iql/pointmaze.yaml", "--print_config")


@pytest.mark.parametrize(
    ("argument", "full"),
    [
        ("--seed=3", "--seed_everything?"),
        ("--trainer.max_step=10", "--trainer.max_steps?"),
        ("--offline.max=10", "--offline.max_steps?"),
        ("--model.lr=1", "--model.learning_rate?"),
        ("conf/antmaze.yaml", "Write --config conf/antmaze.yaml"),
    ],
)
def test_fit_takes_no_abbreviation_and_says_the_full_name(command, refused, argument, full):
    refused(command(*IQL, argument), full)


@pytest.mark.parametrize(
    ("args", "full"),
    [
        (("test", "--ckpt_path=x", "--evaluation.ep=1"), "--evaluation.episodes?"),
        (("test", "--ckpt_path=x", "--env=y"), "--data.env?"),
        (("data", "make", "pointmaze-medium", "--row=3"), "--rows?"),
    ],
)
def test_other_commands_neither(command, refused, args, full):
    refused(command(*args), full)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.discount", "model.gamma"),
        ("lr", "model.learning_rate"),
        ("data.lr", "model.learning_rate"),
        ("run-name", "run.name"),
        ("modle.gamma", "model.gamma"),
        ("model.gama", "model.gamma"),
        ("steps", "trainer.max_steps"),
        ("trainer.gpus", "trainer.devices"),
        ("offline.trainer.max_steps", "trainer.max_steps"),
    ],
)
def test_a_key_of_another_name_is_understood(key: str, meant: str):
    assert meant_by(key)[0] == meant


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--data.start_steps=3", ("OnlineData has it", "data of this run is another")),
        ("--model.admission_steps=3", ("PEX has it", "--model.help NAME")),
    ],
)
def test_a_setting_of_another_class_is_not_suggested_again(command, refused, argument, words):
    outcome = command(*IQL, argument)
    refused(outcome, *words)
    assert "Did you mean" not in outcome.err


def test_a_file_of_the_other_command_is_refused_with_the_command(command, refused, tmp_path):
    study = "conf/studies/methods.yaml"
    refused(command("fit", "--config", study), f"pex-lightning study --config {study}")
    run = "conf/pointmaze.yaml"
    for given in (["--config", run], ["--config", study, f"--config={run}"], ["-c", run]):
        refused(command("study", *given), f"pex-lightning fit --config {run}")
    unlike = tmp_path / "a study.yaml"
    unlike.write_text("study: {name: x}")
    refused(command("fit", "--config", str(unlike)), f"pex-lightning study --config '{unlike}'")


def test_nothing_is_suggested_for_what_resembles_nothing():
    assert meant_by("model.zzzzzz") == []


def test_the_short_help_names_keys_that_exist():
    words = (word.rstrip(":;,") for word in SHORT.split() if word.startswith("--"))
    keys = {word[2:] for word in words} - {"key", "model.KEY", "help", "model.help", "run.name."}
    assert len(keys) > 12
    assert keys <= set(known_keys())


@pytest.mark.parametrize("args", [("fit", "--help"), ("fit", "-h"), ("test", "--help")])
def test_help_needs_no_torch(args):
    code = (
        "import sys; from pex_lightning.cli import main\n"
        f"try: main({list(args)})\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "usage: pex-lightning" in shown.stdout
    assert len(shown.stdout.splitlines()) < 60


def test_full_help_lists_every_key(command):
    text = command("fit", "--help", "full").out
    assert "--trainer.gradient_clip_val" in text
    assert "--run.save_every" in text


def test_the_methods_are_listed(command):
    methods = command("fit", "--model.help").out
    assert "OnlineIQL" in methods
    assert "RLPD" in methods
    assert "OnlineIQL" not in command("fit", "--offline.model.help").out
    assert "OnlineData" in command("fit", "--data.help").out


@pytest.fixture(scope="module")
def script(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outcome = command("completion", "bash")
    assert outcome.code == 0, outcome.err
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(outcome.out)
    return path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"fit", "test", "data", "conf"}),
        ("da", {"data"}),
        ("data ex", {"export"}),
        ("data export --o", {"--out", "--overwrite"}),
        ("fit --config conf/antm", {"conf/antmaze.yaml"}),
        ("fit --config x --model.admission_s", {"--model.admission_steps"}),
        ("fit --model Online", {"OnlineIQL", "OnlineAWAC", "OnlineCalQL"}),
        ("fit --run.name x --run.ov", {"--run.overwrite"}),
        ("conf copy conf/methods/jsr", {"conf/methods/jsrl"}),
        ("test --data.", {"--data.env", "--data.env_kwargs"}),
    ],
)
def test_tab_completes(script: Path, line: str, expected: set[str], tmp_path: Path):
    words = " ".join(f"'{word}'" for word in ["pex-lightning", *line.split(" ")])
    bash = (
        f". {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); "
        'compopt() { :; }; _pex_lightning; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    start = time.monotonic()
    shown = subprocess.run(
        ["bash", "-c", bash], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert time.monotonic() - start < 1
    assert expected <= set(shown.stdout.split()), shown.stderr
    assert len(set(shown.stdout.split()) - expected) <= (5 if not line else 0)


def test_a_shell_without_a_script_is_refused(command, refused):
    for shell in ("tcsh", "fish"):
        refused(command("completion", shell), shell, "bash", "zsh")


def test_errors_go_to_stderr_alone(command, refused):
    for args in (("fit", "--seed=3"), ("conf", "show", "nothing"), ("tset",)):
        outcome = command(*args)
        refused(outcome)
        assert outcome.out == ""
