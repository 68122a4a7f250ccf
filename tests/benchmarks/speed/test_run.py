from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest


def test_missing_peers_are_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    speed, table = bench("speed.run"), bench("speed.case_table")
    absent = replace(table.CASES[2], name="Nowhere", requires="no_such_module", install="nowhere")
    monkeypatch.setattr(speed, "CASES", (table.CASES[0], absent))
    cases, skipped = speed.chosen(speed.arguments().parse_args(["--cases", "a"]))
    assert [case.name for case in cases] == ["ours"]
    assert skipped == {"Nowhere": "no_such_module is not installed: pip install nowhere"}
