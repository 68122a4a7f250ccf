"""What a checkpoint keeps for diagnostics, damaged or altered, ends in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

HUGE = 10**400


@pytest.mark.parametrize(
    ("callback", "state"),
    [
        ("FailureSigns", {"first": {}, "in_a_row": {"weights_at_cap": float("inf")}, "warned": {}}),
        ("FailureSigns", {"first": {}, "in_a_row": {}, "warned": {"weights_at_cap": 3}}),
        ("DiagnosticsSummary", {"first": {"train/q_size": HUGE}}),
        ("Evaluation", {"latest": {}, "evaluated_at": 40, "solved": {"seed": 0, "starts": 7}}),
    ],
)
def test_a_state_that_is_damaged_is_refused(
    callback: str, state: Any, command, tiny, refused, finished: Path, tmp_path: Path
):
    checkpoint = torch.load(finished / "online" / "checkpoints" / "last.ckpt", weights_only=True)
    assert callback in checkpoint["callbacks"]
    checkpoint["callbacks"][callback] = state
    path = tmp_path / "altered.ckpt"
    torch.save(checkpoint, path)
    replay = tmp_path / "replay"
    replay.symlink_to(finished / "online" / "checkpoints" / "replay")
    outcome = command(*tiny(tmp_path, f"--ckpt_path={path}", "--trainer.max_steps=60"))
    refused(outcome, str(path), "damaged or was altered")
