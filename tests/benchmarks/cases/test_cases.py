from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
IQL_SIZE = 300_819
"""2 Qs, V, a policy and its log_std."""


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("module", "requires"),
    [
        ("iql_update", "torch"),
        ("pex_update", "torch"),
        ("torchrl_update", "torchrl"),
        ("d3rlpy_update", "d3rlpy"),
        ("jax_update", "jax"),
    ],
)
def test_a_case_learns(bench: Any, module: str, requires: str, precision: str) -> None:
    pytest.importorskip(requires)
    work = bench(f"cases.{module}").build(precision)
    before = work.parameters()
    assert before.size == IQL_SIZE
    work.step()
    work.step()
    work.finish()
    after = work.parameters()
    assert np.isfinite(after).all()
    assert (before != after).mean() > 0.5


def test_sizes_are_those_asked_for(bench: Any) -> None:
    sized, sampling = bench("cases.sized_update"), bench("cases.sampling")
    layers = [(37, 64, 64, 1)] * 5 + [(29, 64, 64, 1), (29, 64, 64, 8)]
    weights = sum((a + 1) * b for net in layers for a, b in pairwise(net))
    work = sized.build("float32", batch=16, width=64, num_q=5)
    assert work.parameters().size == weights + 8
    work = sampling.build("float32", rows=2_000)
    work.step()
    assert work.units == sampling.UPDATES


def test_every_entry_of_the_table_is_a_function(bench: Any) -> None:
    table, panels = bench("speed.case_table"), bench("scaling.panels")
    entries = {case.entry for case in table.CASES}
    entries |= {panel.entry for panel in panels.PANELS.values()}
    for entry in entries:
        module, function = entry.split(":")
        tree = ast.parse((FOLDER / "cases" / f"{module}.py").read_text())
        assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_jax_computes_the_same(bench: Any) -> None:
    jax = pytest.importorskip("jax")
    ours = bench("cases.shared.builders")
    theirs = bench("cases.jax_update")
    arrays = bench("cases.shared.setting").arrays()
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
    optimizer = iql.configure_optimizers()
    for turn, batch in enumerate(ours.common_batches()[:3]):
        columns = theirs.Arrays(*(column[turn] for column in arrays))
        losses = iql.losses(batch)
        expected = [losses.terms[name].item() for name in ("q", "v", "actor")]
        found = theirs.losses(state.params, state.target, columns)
        np.testing.assert_allclose(np.array(found), expected, rtol=1e-5, atol=1e-7)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        iql.after_step()
        state = theirs.update(state, columns)
    # Where a gradient is nearly 0, Adam's first steps turn rounding into a part of a step.
    for own, other in zip(jax.tree.leaves(params()), jax.tree.leaves(state.params), strict=True):
        assert np.mean(np.abs(own - other)) < 1e-6
