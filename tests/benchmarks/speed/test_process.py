from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_a_process_gets_its_threads_and_how_they_wait(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    table, process = bench("speed.case_table"), bench("speed.process")
    ours, peer = table.CASES[0], next(case for case in table.CASES if not case.ours)
    settings = [
        process.environment(variant)
        for case in (ours, peer)
        for variant in table.variants(case, 2, ["float32"])
    ]
    assert [found.get("OMP_WAIT_POLICY") for found in settings] == ["PASSIVE", "ACTIVE", None]
    # As `fit` sets it.
    assert [found.get("GOMP_SPINCOUNT") for found in settings] == ["1000", None, None]
    (single,) = table.variants(ours, 1, ["float32"])
    assert process.environment(single)["OMP_NUM_THREADS"] == "1"
    assert "--pin" in process.command(single, Path()).arguments


def test_runs_side_by_side_share_the_threads(bench: Any) -> None:
    table, process = bench("speed.case_table"), bench("speed.process")
    case = next(case for case in table.CASES if case.name == table.SIDE_BY_SIDE[0])
    (variant,) = table.variants(case, 2, ["float32"])
    assert process.environment(variant)["OMP_NUM_THREADS"] == "1"
    assert "--copies=2" in process.command(variant, Path()).arguments
    assert bench("speed.side_by_side").added(["20 0.5", "40 0.7"]) == "60 0.6"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "threads"), [("fit", 1), ("fit, 2 runs side by side", 2)])
def test_a_real_fit_is_measured(bench: Any, tmp_path: Path, name: str, threads: int) -> None:
    table, process = bench("speed.case_table"), bench("speed.process")
    stopwatch = bench("speed.stopwatch")
    bench("cases.shared.made_up_dataset").write(tmp_path, rows=3_000)
    case = next(case for case in table.CASES if case.name == name)
    (variant,) = table.variants(case, threads, ["float32"])
    commands = [process.command(variant, tmp_path, ("--model.compile_update=false",))]
    found = stopwatch.alternate(commands, rounds=2, seconds=0.2, tell=lambda line: None)
    assert found.skipped == {}
    assert [block.units % 20 for block in found.blocks] == [0, 0]
    assert all(block.rate > 1 for block in found.blocks)
    folders = [folder for folder in tmp_path.iterdir() if folder.name.startswith("run-")]
    assert len(folders) == threads
