from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


def comparison(bench: Any, rates: dict[str, list[float]], **changes: Any) -> Any:
    """Of two threads, with blocks of a second at these rates by label."""
    table, stopwatch = bench("case_table"), bench("stopwatch")
    settings = {"threads": [2], "precisions": ["float32", "bf16"], **changes}
    groups = table.groups(list(table.CASES), **settings)
    group = next(g for g in groups if set(rates) <= {v.label for v in g.variants})
    blocks = [
        stopwatch.Block(label, turn, round(100 * rate), 100.0)
        for label, values in rates.items()
        for turn, rate in enumerate(values)
    ]
    return bench("measurements").Comparison(group, stopwatch.Measured(blocks, {}))


def spread(found: Any) -> tuple[float, float, float]:
    return found.lower, found.median, found.upper


def test_ratios_are_taken_within_rounds(bench: Any) -> None:
    # The machine is half as fast in every round as in the one before.
    found = comparison(bench, {"ours, float32, brief": [80, 40, 20], "JAX, float32": [160, 80, 42]})
    ours, jax = bench("speed_report").rows(found)
    assert spread(ours.ratio) == (1.0, 1.0, 1.0)
    assert spread(jax.ratio) == (2.0, 2.0, pytest.approx(2.05))
    assert spread(jax.rate) == (61.0, 80.0, 120.0)
    assert jax.overall == pytest.approx(94.0)
    assert "JAX, float32" in bench("speed_report").table(found)


def test_no_ratio_where_the_first_is_missing(bench: Any) -> None:
    found = comparison(bench, {"JAX, float32": [10, 10]})
    (row,) = bench("speed_report").rows(found)
    assert row.ratio is None


RATES = {
    "ours, float32, brief": [100.0, 100.0],
    "ours compiled, float32, active": [150.0, 150.0],
    "d3rlpy, float32": [100.0, 100.0],
    "JAX, float32": [150.0, 150.0],
    "fit, float32, brief": [120.0, 120.0],
    "fit, float32, active": [135.0, 135.0],
}


def test_targets_compare_the_fastest(bench: Any) -> None:
    targets = bench("targets").targets([comparison(bench, RATES)], None)
    found = {t.name: t for t in targets if t.found is not None}
    verdicts = {name: (t.found.median, t.verdict) for name, t in found.items()}
    assert verdicts == {
        "update, float32: of JAX's": (1.0, "met"),
        "update, float32: of d3rlpy's": (1.5, "missed"),
        "offline fit: of the bare update": (0.9, "missed"),
    }
    note = found["offline fit: of the bare update"].note
    assert note == "fit, float32, active / ours compiled, float32, active"
    table = bench("targets").targets_table(targets)
    assert "not measured" in table
    assert all(target.name in table for target in targets)


def test_targets_of_a_run_are_upper_bounds(bench: Any) -> None:
    costs = bench("run_costs")
    start = costs.RunStart(
        seconds=13.0,
        evaluation_seconds=1.0,
        peak_bytes=500 * 10**6,
        compiler_seconds=2.0,
        helper_peak_bytes=None,
    )
    again = replace(start, seconds=12.0)
    found = bench("targets").targets([], costs.RunCosts(start, again, dataset_bytes=10**8))
    verdicts = {t.name: t.verdict for t in found if t.found is not None}
    assert verdicts == {
        "offline fit: peak memory over the dataset, MB": "met",
        "offline fit: peak memory over the dataset, MB, nothing compiled before": "met",
        "offline fit: seconds to the first update": "met",
        "offline fit: seconds to the first update, nothing compiled before": "missed",
    }


def test_bf16_meets_float32_in_the_same_group(bench: Any) -> None:
    rates = {"ours, float32, brief": [100.0], "ours compiled, bf16, active": [130.0]}
    (found,) = (
        t
        for t in bench("targets").targets([comparison(bench, rates)], None)
        if t.name == "update: bf16 of float32"
    )
    assert found.found.median == pytest.approx(1.3)


def test_groups_fit_into_memory_and_labels_differ(bench: Any) -> None:
    table = bench("case_table")
    for group in table.groups(list(table.CASES), [1, 2], ["float32", "bf16"]):
        assert len(group.variants) <= table.MOST_PROCESSES
        assert len({variant.label for variant in group.variants}) == len(group.variants)
        assert {variant.threads for variant in group.variants} == {group.threads}


def test_a_process_gets_its_threads_and_how_they_wait(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    table = bench("case_table")
    ours, peer = table.CASES[0], next(case for case in table.CASES if not case.ours)
    settings = [
        table.environment(variant)
        for case in (ours, peer)
        for variant in table.variants(case, 2, ["float32"])
    ]
    assert [found.get("OMP_WAIT_POLICY") for found in settings] == ["PASSIVE", "ACTIVE", None]
    # As ``fit`` sets it.
    assert [found.get("GOMP_SPINCOUNT") for found in settings] == ["1000", None, None]
    (single,) = table.variants(ours, 1, ["float32"])
    assert table.environment(single)["OMP_NUM_THREADS"] == "1"
    assert "--pin" in table.command(single, Path()).arguments


def test_missing_peers_are_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    speed, table = bench("speed"), bench("case_table")
    absent = replace(table.CASES[2], name="Nowhere", requires="no_such_module", install="nowhere")
    monkeypatch.setattr(speed, "CASES", (table.CASES[0], absent))
    cases, skipped = speed.chosen(speed.arguments().parse_args(["--cases", "a"]))
    assert [case.name for case in cases] == ["ours"]
    assert skipped == {"Nowhere": "no_such_module is not installed: pip install nowhere"}


def test_reports_are_written(bench: Any, tmp_path: Path) -> None:
    found = [comparison(bench, RATES)]
    report = bench("speed_report").to_json(found, {}, None, bench("targets").targets(found, None))
    (group,) = json.loads(json.dumps(report))["groups"]
    assert [row["rate"]["median"] for row in group["results"]] == [100, 150, 100, 150, 120, 135]
    bench("speed_picture").picture(found, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_real_fit_is_measured(bench: Any, tmp_path: Path) -> None:
    table, stopwatch, made_up = bench("case_table"), bench("stopwatch"), bench("made_up")
    made_up.write(tmp_path, rows=3_000)
    case = next(case for case in table.CASES if case.name == "fit")
    (variant,) = table.variants(case, 1, ["float32"])
    commands = [table.command(variant, tmp_path, ("--model.compile_update=false",))]
    found = stopwatch.alternate(commands, rounds=2, seconds=0.2, tell=lambda line: None)
    assert found.skipped == {}
    assert [block.units % 20 for block in found.blocks] == [0, 0]
    assert all(block.rate > 1 for block in found.blocks)
