from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("speed")


def settings(**changes: Any) -> argparse.Namespace:
    values = {"threads": [1, 2], "precisions": ["float32", "bf16"], "rounds": 3, "seconds": 0.0}
    return argparse.Namespace(**{**values, **changes})


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("module", "requires"),
    [("ours", "torch"), ("torchrl_iql", "torchrl"), ("d3rlpy_iql", "d3rlpy"), ("jax_iql", "jax")],
)
def test_a_case_learns(speed: Any, module: str, requires: str, precision: str) -> None:
    pytest.importorskip(requires)
    work = importlib.import_module(f"cases.{module}").build(precision)
    # Both come from the same sizes: 2 Qs, V, a policy and its log_std.
    before = work.parameters()
    assert before.size == 300_819
    work.step()
    work.step()
    work.finish()
    after = work.parameters()
    assert np.isfinite(after).all()
    assert (before != after).mean() > 0.5


def test_every_case_of_the_table_is_a_file(speed: Any) -> None:
    for case in speed.CASES:
        assert (FOLDER / "cases" / f"{case.module}.py").exists()


def test_ratios_are_to_ours_of_the_same_round_and_threads(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {1: 100.0, 2: 200.0}
    noise = iter([1.0, 2.0, 4.0])
    load = 1.0

    def fake(case: Any, variant: Any, seconds: float) -> float:
        nonlocal load
        if (variant.library, variant.precision, variant.threads) == ("ours", "float32", 1):
            load = next(noise)
        factor = 0.5 if variant.library != "ours" else 1.0
        factor *= 2.0 if variant.wait == "ACTIVE" else 1.0
        return ours[variant.threads] * factor / load

    monkeypatch.setattr(speed, "measure", fake)
    monkeypatch.setattr(speed, "missing", lambda case: None)
    rows = {row.label: row for row in speed.run(list(speed.CASES), settings()).rows()}
    spread = rows["ours updates float32 1 thread"].rate
    assert (spread.median, spread.low, spread.high) == (50.0, 25.0, 100.0)
    for label, ratio in {
        "ours updates float32 2 threads PASSIVE": 1.0,
        "ours updates bf16 2 threads ACTIVE": 2.0,
        "d3rlpy updates float32 2 threads unset": 0.5,
        "JAX updates bf16 1 thread": 0.5,
    }.items():
        found = rows[label].ratio
        assert (found.median, found.low, found.high) == (ratio, ratio, ratio), label


def test_missing_and_broken_peers_are_named(
    speed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, peer, *_ = speed.CASES
    absent = replace(peer, library="Nowhere", requires="no_such_module", install="nowhere")
    asked: list[str] = []

    def fake(case: Any, variant: Any, seconds: float) -> float | str:
        asked.append(variant.label)
        return 10.0 if case.library == "ours" else "ImportError: broken"

    monkeypatch.setattr(speed, "measure", fake)
    report = speed.run([ours, absent, peer], settings(threads=[1], precisions=["float32"]))
    text = speed.table(report)
    assert "skipped Nowhere: no_such_module is not installed: pip install nowhere" in text
    assert "skipped TorchRL updates float32 1 thread: ImportError: broken" in text
    # What is broken is not tried again in every round.
    assert asked.count("TorchRL updates float32 1 thread") == 1
    assert [row.label for row in report.rows()] == ["ours updates float32 1 thread"]
    speed.picture(report, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_a_process_gets_its_threads_and_how_they_wait(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    peer = speed.variants(speed.CASES[1], [2], ["float32"])
    environments = [speed.environment(variant) for variant in peer]
    assert [e.get("OMP_WAIT_POLICY") for e in environments] == [None, "PASSIVE"]
    assert environments[0]["OMP_NUM_THREADS"] == "2"


@pytest.mark.slow
def test_a_measurement_runs_in_a_process_of_its_own(speed: Any) -> None:
    case = speed.CASES[0]
    variant = speed.variants(case, [1], ["float32"])[0]
    assert speed.measure(case, variant, 0.1) > 0
    broken = speed.measure(replace(case, module="no_such_case"), variant, 0.1)
    assert "no_such_case" in broken
    assert "torch" in sys.modules


def test_jax_computes_the_same(speed: Any) -> None:
    jax = pytest.importorskip("jax")
    ours = importlib.import_module("cases.ours")
    theirs = importlib.import_module("cases.jax_iql")
    arrays = importlib.import_module("cases.setting").arrays()
    iql = ours.new_iql()

    def params() -> Any:
        def array(tensor: Any) -> Any:
            return jax.numpy.array(tensor.detach().numpy(), copy=True)

        def linear(net: Any) -> Any:
            layers = [layer for layer in net.layers if hasattr(layer, "weight")]
            return [(array(layer.weight.T), array(layer.bias)) for layer in layers]

        q_net = iql.critic.q_net
        q = [(array(w), array(b)) for w, b in zip(q_net.weights, q_net.biases, strict=True)]
        policy = iql.policy
        return theirs.Params(q, linear(iql.critic.v_net), linear(policy.net), array(policy.log_std))

    state = theirs.new_state(params())
    optimizer = iql.configure_optimizers()["optimizer"]
    for turn, batch in enumerate(ours.batches()[:3]):
        columns = theirs.Arrays(*(column[turn] for column in arrays))
        losses = iql.losses(batch)
        expected = [losses.q.loss.item(), losses.value.loss.item(), losses.policy.loss.item()]
        found = theirs.losses(state.params, state.target, columns)
        np.testing.assert_allclose(np.array(found), expected, rtol=1e-5, atol=1e-7)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        iql.critic.update_target(iql.tau)
        state = theirs.update(state, columns)
    # Where a gradient is nearly 0, Adam's first steps turn rounding into a part of a step.
    for own, other in zip(jax.tree.leaves(params()), jax.tree.leaves(state.params), strict=True):
        assert np.mean(np.abs(own - other)) < 1e-6
