"""The generated pages of the reference are those that the code makes now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "docs" / "generate.py"
spec = importlib.util.spec_from_file_location("generate_reference", GENERATOR)
assert spec is not None
assert spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_a_page_is_what_the_code_makes(page: str) -> None:
    written = (ROOT / "docs" / "reference" / page).read_text()
    assert written == generate.PAGES[page](), "run python docs/generate.py"


def test_every_command_is_on_the_page() -> None:
    from pex_lightning.cli import USAGE

    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    for command in re.findall(r"^  (\w+)  ", USAGE, re.MULTILINE):
        assert f"## pex-lightning {command}" in page
