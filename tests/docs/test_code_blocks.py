"""Commands in the documentation are ones that the command line takes, and its examples run.

A block whose first line is a comment with a file's name, such as `# reach.py`, is that file.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from pex_lightning.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCS, CONTRIBUTING = ROOT / "docs", (ROOT / "CONTRIBUTING.md").read_text()
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
(OWN_METHOD,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
# These two train; here for a moment.
SMALLER = {
    "10_000": "20",
    "8_000": "20",
    "6_000": "20",
    "4_000": "10",
    "episodes=100": "episodes=2, num_envs=1",
    'dataset="pointmaze-medium",': 'dataset="pointmaze-medium", rows=2_000, start_steps=100,',
}
OTHERS = {"measures.md", "results.md", "use-a-policy.md", "policy-sets.md"}
"""Pages whose examples other tests run, or that leave out what the reader has."""


class ParsedError(BaseException):
    """Ends a command as soon as its arguments are accepted."""


def blocks(text: str, *languages: str) -> list[str]:
    return [code for language, code in BLOCK.findall(text) if language in languages]


def commands(text: str) -> list[list[str]]:
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    lines = [re.split(r" [>|] ", line)[0] for line in lines]
    words = [shlex.split(line.removeprefix("exec "), comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "pex-lightning"]


def first_uses() -> dict[str, list[list[str]]]:
    """The commands of each page that are not on an earlier one."""
    seen, found = set(), {}
    for name, text in sorted(PAGES.items()):
        new = {tuple(words): words for words in commands(text) if tuple(words) not in seen}
        seen |= {*new}
        found[name] = [*new.values()]
    return found


COMMANDS = first_uses()


def write_files(text: str, folder: Path) -> None:
    for code in blocks(text, "python", "yaml"):
        if named := re.match(r"# ([\w-]+\.(?:py|yaml))\n", code):
            (folder / named[1]).write_text(code)


@pytest.fixture
def folder(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a finished run in it, as after the tutorial's first command."""
    for name in ("pointmaze", "stopped"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def parsed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args, depth = jsonargparse.ArgumentParser.parse_args, 0

    def parse_and_stop(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal depth
        depth += 1
        try:
            parsed = parse_args(self, *args, **kwargs)
        finally:
            depth -= 1
        if depth:
            return parsed
        raise ParsedError

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_args", parse_and_stop)


@pytest.mark.parametrize("page", [name for name in COMMANDS if COMMANDS[name]])
@pytest.mark.usefixtures("parsed_only")
def test_commands_are_accepted(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGES[page]
    write_files(text, folder)
    (folder / "my_methods.py").write_text(OWN_METHOD)
    (folder / "myalgo.py").write_text("from pex_lightning.algorithms import PEX as MyPEX\n")
    for argv in COMMANDS[page]:
        try:
            code = main(argv)
        except ParsedError:
            continue
        except SystemExit as stop:  # Of --help and --print_config.
            code = stop.code
        assert code in (0, None), (argv, capsys.readouterr().err)


@pytest.mark.parametrize(
    "page",
    [
        name
        for name in sorted({*PAGES} - OTHERS)
        if "coming-from" not in name and blocks(PAGES[name], "python")
    ],
)
def test_examples_run(page: str, folder: Path) -> None:
    text = PAGES[page]
    write_files(text, folder)
    names: dict[str, Any] = {"__name__": "example"}
    for whole, small in SMALLER.items():
        text = text.replace(whole, small)
    assert not re.search(r"max_steps=\d+_", text), "this would train for long: see SMALLER"
    for code in blocks(text, "python"):
        exec(compile(code, page, "exec"), names)
