"""The costs of large policy sets: how they are measured and shown."""

from __future__ import annotations

from typing import Any

import pytest


def test_ratios_are_taken_within_a_round(bench: Any) -> None:
    module = bench("speed.policy_set")
    rounds = [{1: 0.001, 4: 0.002}, {1: 0.004, 4: 0.012}, {1: 0.001, 4: 0.0025}]
    assert module.ratios(rounds) == {1: 1.0, 4: 2.5}
    lines = module.table({"update": rounds}).splitlines()
    assert lines[0] == "| | K = 1 | K = 4 | K = 1, ms |"
    assert lines[2] == "| update | 1.00 | 2.50 | 1.00 |"


def test_all_sizes_have_their_turn_in_every_round(bench: Any) -> None:
    calls: list[int] = []
    steps = {size: lambda size=size: calls.append(size) for size in (1, 2)}
    found = bench("speed.policy_set").measured(steps, rounds=2, seconds=0.0001)
    assert [list(times) for times in found] == [[1, 2], [1, 2]]
    turns = [size for n, size in enumerate(calls) if n == 0 or calls[n - 1] != size]
    assert turns == [1, 2, 1, 2]


def test_it_runs(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--plain-only", "--sizes", "1", "3", "--rounds", "1", "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", ["policy_set", *arguments])
    bench("speed.policy_set").main()
    out = capsys.readouterr().out
    assert out.startswith("| | K = 1 | K = 3 | K = 1, ms |")
    assert "| acting step | 1.00 |" in out
