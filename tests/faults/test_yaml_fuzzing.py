"""Configuration files with random damage: each is used or refused in one message."""

import time
from pathlib import Path
from typing import Any

import pytest

from commands import ROOT
from mutations import SEED_NAMES, SEEDS, mutated


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [15, pytest.param(1_000, marks=pytest.mark.long)])
def test_a_damaged_configuration_is_used_or_refused(
    command: Any, tmp_path: Path, count: int, seed: int
) -> None:
    file = tmp_path / "damaged.yaml"
    content = (ROOT / "conf/base/pex.yaml").read_bytes()
    for number, damaged in enumerate(mutated(content, count, seed, head=len(content))):
        file.write_bytes(damaged)
        begin = time.monotonic()
        outcome = command("fit", "--config", str(file), "--print_config")
        assert outcome.code == 0 or (outcome.code, outcome.err[:7]) == (2, "error: "), number
        assert len(outcome.err) < 3_000, number
        assert time.monotonic() - begin < 30, number
