"""The pages of the methods name what there is, and state the defaults that hold."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.data.online import OnlineData

ROOT = Path(__file__).resolve().parents[2]
METHODS = ROOT / "docs" / "methods"
PAGES = sorted(METHODS.glob("*.md"))
NAMES = [page.name for page in PAGES]
CLASSES: dict[str, type] = {**ALGORITHMS, "Algorithm": Algorithm}


def arguments(cls: type) -> dict[str, Any]:
    """Defaults of a class's constructors by name, of the nearest class first."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base) and base.__module__.startswith("pex_lightning."):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                found.setdefault(name, parameter.default)
    return found


def classes_of(text: str) -> list[type]:
    (line,) = re.findall(r"^Classes: ([^.]+)\.", text, re.MULTILINE)
    return [CLASSES[name] for name in re.findall(r"`(\w+)`", line)]


def stated(text: str) -> list[tuple[str, str, str]]:
    """Rows of the tables of settings: section, name, default."""
    return re.findall(r"^\| `--(model|data)\.(\w+)` \| `([^`]*)` \|", text, re.MULTILINE)


def value(written: str) -> Any:
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written


def test_every_method_has_a_page():
    named = {cls.__name__ for page in PAGES for cls in classes_of(page.read_text())}
    assert named == set(CLASSES)


def test_every_method_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "algorithms.md").read_text()
    for cls in CLASSES.values():
        assert f"::: {cls.__module__}.{cls.__qualname__}\n" in f"{text}\n"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_flags_exist(page: Path):
    text = page.read_text()
    of_model = {name for cls in classes_of(text) for name in arguments(cls)}
    used = set(re.findall(r"--model\.(\w+)", text))
    assert used <= of_model
    assert set(re.findall(r"--data\.(\w+)", text)) <= set(arguments(OnlineData))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_defaults_are_those_of_the_code(page: Path):
    text = page.read_text()
    rows = stated(text)
    assert len(rows) == len(re.findall(r"^\| `--", text, re.MULTILINE)) > 0
    for section, name, written in rows:
        classes = classes_of(text) if section == "model" else [OnlineData]
        defaults = [arguments(cls)[name] for cls in classes if name in arguments(cls)]
        assert value(written) in defaults, f"{page.name}: --{section}.{name}"


def test_every_configuration_of_a_method_is_named_and_exists():
    text = "".join(page.read_text() for page in PAGES)
    for folder in ("methods", "ablations"):
        there = {path.name for path in (ROOT / "conf" / folder).iterdir()}
        assert [name for name in sorted(there) if name not in text] == []
    named = set(re.findall(r"conf/[\w/-]+\.yaml", text))
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    in_it = set(re.findall(r"[\w/-]+\.md", str(navigation)))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert in_it == there
