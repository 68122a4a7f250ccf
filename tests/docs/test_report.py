"""The page about reports names every argument and every section."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "report.md").read_text()
SOURCE = ROOT / "src" / "pex_lightning"


def test_every_argument_and_every_section_is_on_the_page() -> None:
    arguments = set(re.findall(r'"(--\w+)"', (SOURCE / "cli" / "report.py").read_text()))
    assert arguments == set(re.findall(r"^\| `(--\w+)`", PAGE, re.MULTILINE))
    code = (SOURCE / "report" / "sections.py").read_text()
    titles = re.findall(r'Section\(\s*"\w+",\s*"([^"]+)"', code)
    assert titles == re.findall(r"^\*\*([^*]+)\.\*\*", PAGE, re.MULTILINE)
