"""Configurations made to exhaust the parser or to run code."""

import string
import time
from pathlib import Path
from typing import Any

import pytest

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n"
    for a, b in zip(string.ascii_lowercase, string.ascii_lowercase[1:], strict=False)
)
DEEP = "[" * 5_000 + "]" * 5_000


@pytest.fixture
def given(command: Any, tmp_path: Path) -> Any:
    """Run `fit --print_config` with the built-in task and this configuration after it."""

    def run(content: str | bytes, *more: str) -> Any:
        file = tmp_path / "hostile.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        begin = time.monotonic()
        base = ("--config", "conf/pointmaze.yaml", "--config", str(file))
        outcome = command("fit", *base, "--print_config", *more)
        assert time.monotonic() - begin < 20
        return outcome

    return run


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BOMB, "more than 5000 values"),
        ("data: " + DEEP, "depth"),
        ("\n".join(" " * level + "a:" for level in range(900)), "more than 50 levels"),
        ("a: &a [[[x]]]\n" + f"b: {'[' * 48}*a{']' * 48}", "more than 50 levels"),
        ("data: &a\n  env_kwargs: *a\n", "inside of what it stands for"),
        ("data: [" + "1, " * 5_000 + "]", "more than 5000 values"),
        ("#" + "x" * 2**20, "larger than 1048576 bytes"),
        ("data: *unknown\n", "undefined alias"),
        (b"data: \xff\xfe\n", "cannot be read"),
        ("data: \0\n", "not valid YAML"),
        ('run: {name: "a\\0b"}\n', "line 1 has a zero byte"),
        ("data:\n\trows: 1\n", "line 2"),
        ("model:\n  tau: 0.5\n  tau: 0.9\n", "line 3 gives 'tau' again"),
        ("trainer: {max_steps: 1}\ntrainer: {max_steps: 2}\n", "line 2 gives 'trainer' again"),
        (f"trainer: {{max_steps: {'9' * 5_000}}}\n", "4300 digits"),
        ("trainer: {max_steps: 2001-99-99}\n", "not valid YAML"),
        ("trainer: {max_steps: !!timestamp x}\n", "not valid YAML"),
        ("run: {name: '${run.root}', root: '${run.name}'}\n", "--run.name cannot be resolved"),
        ("run: {name: '${oc.env:NO_SUCH_VARIABLE}'}\n", "NO_SUCH_VARIABLE"),
        ("run: {name: '" + "${oc.env:" * 400 + "}" * 400 + "'}\n", "nested too deeply"),
        ("trainer: !!set {a, b}\n", "--trainer"),
        ("1: 2\n", "must be a string"),
    ],
)
def test_it_is_refused(given: Any, refused: Any, content: str | bytes, says: str) -> None:
    refused(given(content), says)


@pytest.mark.parametrize("tag", ["apply:os.system", "new:os.system", "name:os.system"])
def test_no_tag_runs_code(given: Any, refused: Any, tmp_path: Path, tag: str) -> None:
    code = f"data: !!python/object/{tag} ['touch {tmp_path}/executed']\n"
    refused(given(code), "python/object")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("--model.hidden_dims=" + "[" * 60 + "]" * 60, "more than 50 levels"),
        ("--model.hidden_dims=" + DEEP, "--model.hidden_dims"),
        ("--model.hidden_dims=" + "[" * 5_000, "--model.hidden_dims"),
        ('--data.env_kwargs={"a": ' * 3_000, "--data"),
        ("--data.env_kwargs=&a {b: *a}", "inside of what it stands for"),
        ('--data.env_kwargs={"a": 1, "a": 2}', "gives 'a' again"),
        ("--model.hidden_dims=[" + "1, " * 5_000 + "]", "more than 5000 values"),
        ("--trainer.max_steps=" + "9" * 5_000, "--trainer.max_steps"),
        ("--run.name=\udcff", "not valid UTF-8"),
    ],
)
def test_values_of_a_command_line_have_the_same_limits(
    given: Any, refused: Any, value: str, says: str
) -> None:
    refused(given("run: {}\n", value), says)


def test_files_that_values_name_have_the_same_limits(
    given: Any, refused: Any, tmp_path: Path
) -> None:
    bomb = tmp_path / "trainer.yaml"
    bomb.write_text(BOMB)
    refused(given("run: {}\n", f"--trainer={bomb}"), "more than 5000 values")


def test_commands_other_than_fit_have_the_same_limits(command: Any, refused: Any) -> None:
    deep = "[" * 60 + "]" * 60
    refused(command("test", "--ckpt_path=x", f"--data.env_kwargs={deep}"), "more than 50 levels")


def test_aliases_merges_and_some_nesting_are_allowed(given: Any) -> None:
    content = "trainer: &t {max_steps: 7}\nevaluation: &e {episodes: 3}\noffline: {trainer: {}}\n"
    nested = "data: {init_args: {env_kwargs: {a: &m [[[1]]], b: *m, c: {<<: {d: 1}}}}}\n"
    outcome = given(content + nested)
    assert outcome.code == 0, outcome.err
    assert "max_steps: 7" in outcome.out


@pytest.mark.parametrize("path", ["/dev/zero", "/tmp", "x" * 5_000, "no\0file", ""])
def test_what_is_not_a_file_is_refused(command: Any, refused: Any, path: str) -> None:
    refused(command("fit", "--config", path), "--config")


@pytest.mark.parametrize(("levels", "each"), [(30, 2), (1_500, 1)])
def test_bases_without_end_are_refused(
    command: Any, refused: Any, tmp_path: Path, levels: int, each: int
) -> None:
    for level in range(levels):
        names = ", ".join([f"{level + 1}.yaml"] * each)
        (tmp_path / f"{level}.yaml").write_text(f"base: [{names}]\n")
    (tmp_path / f"{levels}.yaml").write_text("run: {}\n")
    refused(command("fit", "--config", str(tmp_path / "0.yaml")), "more than 100 files")
