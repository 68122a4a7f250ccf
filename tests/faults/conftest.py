"""Every test of this folder belongs to `nox -s faults`; those marked `long` run only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import cache, command, finished, refused, tiny, wait_for
from mutations import RANDOM_SEED

__all__ = ["cache", "command", "finished", "refused", "tiny", "wait_for"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("faults")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"Random seed of the mutations: FAULTS_SEED={RANDOM_SEED}")
