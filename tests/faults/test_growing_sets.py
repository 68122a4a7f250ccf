"""Policy sets that grow where the memory of parameters must stay where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.compilation.compiler import has_compiler

TWO_PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")
def test_a_compiled_update_follows_a_set_that_grows(toy: Any) -> None:
    results = []
    for compile_update in (False, True):
        module = toy.algorithm(
            "PEX",
            members=[{"path": str(toy.offline_path), "name": "again"}],
            grow_at=[10, 20],
            admission_steps=5,
            target_entropy=0.5,
            compile_update=compile_update,
        )
        toy.fit(module, 30)
        assert module.compiles == compile_update
        assert module.policies._groups == [[0, 1, 2, 3]]
        results.append({key: value.clone() for key, value in module.state_dict().items()})
    plain, compiled = results
    assert plain["policies.filled"].all()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.long
def test_processes_of_a_run_grow_alike(
    command: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDP_PROBE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "cli"), prepend=":")
    probe = "--trainer.callbacks=[{class_path: ddp_probe.Probe}]"
    growth = ("--model.grow_at=[10]", "--model.grow_when_stalled=1", "--model.largest_set=5")
    process = command.start(*tiny(tmp_path, *TWO_PROCESSES, probe, *growth, "--evaluation.every=5"))
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    ranks = [torch.load(tmp_path / f"online-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert ranks[0]["parameters"]["policies.filled"].sum() >= 3
    for key, value in ranks[0]["parameters"].items():
        assert torch.equal(value, ranks[1]["parameters"][key]), key


@pytest.mark.long
def test_collecting_processes_follow_a_set_that_grows(
    command: Any, tiny: Any, tmp_path: Path
) -> None:
    process = command.start(
        *tiny(tmp_path, "--data.num_collectors=1", "--model.grow_at=[10]"),
        "--model.admission_steps=0",
        "--model.inv_temperature=0",
        "--trainer.max_steps=200",
    )
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    header = read_checkpoint(tmp_path / "tiny/online/checkpoints/last.ckpt").header
    assert header.members == ("offline", "online-1", "online")
    rows = (tmp_path / "tiny/online/metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/online-1_policy_share")
    shares = [float(row.split(",")[column]) for row in rows[2:]]
    assert shares[0] == 0.0
    later = shares[2:]
    assert 0.2 < sum(later) / len(later) < 0.5
