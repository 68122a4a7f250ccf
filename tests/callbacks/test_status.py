"""`status.json` of a finished run, and of runs without one."""

from __future__ import annotations

from pathlib import Path

from commands import cache, command, finished, tiny
from pex_lightning.callbacks.status import STATUS, read_status

__all__ = ["cache", "command", "finished", "tiny"]


def test_a_run_says_how_far_each_stage_is(finished: Path):
    for stage, evaluations in (("offline", 3), ("online", 3)):
        status = read_status(finished / stage)
        assert status is not None
        assert (status.gradient_steps, status.max_steps, status.first_step) == (40, 40, 0)
        assert status.score is not None
        assert status.train_seconds > 0
        assert status.evaluation_seconds > 0
        assert 1 <= status.evaluations <= evaluations
        assert status.updates_per_second > 0
        assert 0 < status.start_step < 40
        assert 0 < status.start_seconds < status.train_seconds
    online = read_status(finished / "online")
    assert online is not None
    assert online.env_steps >= 90


def test_what_cannot_be_read_is_none(tmp_path: Path):
    assert read_status(tmp_path) is None
    for text in ("", "[]", "{}", "[" * 10_000, '{"gradient_steps": 1e400}'):
        (tmp_path / STATUS).write_text(text)
        assert read_status(tmp_path) is None
