"""The rooms: imports run downwards, and nothing outside `algorithms` names a method."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pex_lightning.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "pex_lightning"
ROOMS = (
    "cli",
    "report",
    "studies",
    "callbacks",
    "export",
    "algorithms",
    "updates",
    "handover",
    "data",
    "inspection",
    "collection",
    "replay",
    "recording",
    "d4rl",
    "datasets",
    "evaluation",
    "policies",
    "files",
    "envs",
    "losses",
    "nn",
)
"""From the top to the bottom; files of the package's own folder are below all of them."""


def files() -> Iterator[tuple[str, Path]]:
    """Every file with the room that it is in; the package's own folder is ''."""
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).parts
        yield (parts[0] if len(parts) > 1 else ""), path


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pex_lightning" and len(parts) > 1:
                yield parts[1] if parts[1] in ROOMS else ""


def test_the_rooms_are_those_of_the_source() -> None:
    assert {room for room, _ in files()} == {*ROOMS, ""}


def test_imports_run_downwards() -> None:
    upwards = []
    for room, path in files():
        # The package's own `__init__.py` offers what is in the rooms.
        if path.name == "__main__.py" or path == SRC / "__init__.py":
            continue
        for target in imported_rooms(path):
            if target != room and target and (not room or ROOMS.index(target) < ROOMS.index(room)):
                upwards.append(f"{path.relative_to(SRC)} imports {target}")
    assert not upwards


def test_no_room_holds_more_than_a_fifth_of_the_code_and_no_file_is_long() -> None:
    lines: dict[str, int] = {}
    for room, path in files():
        count = len(path.read_text().splitlines())
        lines[room] = lines.get(room, 0) + count
        assert count <= 310, path
    assert max(lines.values()) <= sum(lines.values()) / 5


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_no_method_is_named_outside_of_algorithms(name: str) -> None:
    """Prose may speak of methods; code may not know them."""
    for room, path in files():
        if room == "algorithms":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Name) and node.id == name), path
            assert not (isinstance(node, ast.Constant) and node.value == name), path


def test_contributing_draws_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    drawing = re.search(r"```mermaid\n(.*?)```", text, re.S)
    assert drawing is not None
    assert set(ROOMS) <= set(re.findall(r"\b\w+\b", drawing[1]))
    arrows = re.findall(r"(\w+) --> ([\w &]+)", drawing[1])
    drawn = {(a, b.strip()) for a, targets in arrows for b in targets.split("&")}
    found = {
        (room, target)
        for room, path in files()
        for target in imported_rooms(path)
        if room and target and room != target
    }
    assert drawn <= found, "the picture has an arrow that the code does not have"
