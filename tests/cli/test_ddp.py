"""Two processes train one policy: equal parameters, different samples, different environments."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.compilation.compiler import has_compiler

TWO_PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def two_processes(command, tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of both stages on two CPU processes, with what each of them ended with."""
    root = tmp_path_factory.mktemp("ddp")
    patch = pytest.MonkeyPatch()
    patch.setenv("DDP_PROBE", str(root))
    patch.setenv("PYTHONPATH", str(Path(__file__).parent))
    probe = "[{class_path: ddp_probe.Probe}]"
    process = command.start(
        *tiny(
            root,
            *TWO_PROCESSES,
            f"--trainer.callbacks={probe}",
            f"--offline.trainer.callbacks={probe}",
        )
    )
    patch.undo()
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return root


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["offline", "online"])
def test_processes_agree_on_parameters_and_differ_in_samples(two_processes: Path, stage: str):
    ranks = [torch.load(two_processes / f"{stage}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [rank["global_step"] for rank in ranks] == [40, 40]
    for key, value in ranks[0]["parameters"].items():
        assert torch.equal(value, ranks[1]["parameters"][key]), key
    assert not torch.equal(ranks[0]["seen"], ranks[1]["seen"])


@pytest.fixture(scope="module")
def compiled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run compiled, the next one finds."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")
@pytest.mark.parametrize("fails", [False, True])
def test_processes_agree_on_parameters_and_on_compiling_updates(
    fails: bool,
    command,
    tiny,
    tmp_path: Path,
    compiled_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("DDP_PROBE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder))
    monkeypatch.setenv("DDP_PLAIN_UPDATES", "20")
    if fails:
        monkeypatch.setenv("DDP_FAILS", "1")
    probe = "--trainer.callbacks=[{class_path: ddp_probe.Probe}]"
    process = command.start(*tiny(tmp_path, *TWO_PROCESSES, probe, "--offline.max_steps=10"))
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert ("compiling failed: another process" in err) == fails
    ranks = [torch.load(tmp_path / f"online-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [rank["global_step"] for rank in ranks] == [40, 40]
    assert [rank["compiles"] for rank in ranks] == [not fails] * 2
    for key, value in ranks[0]["parameters"].items():
        assert torch.equal(value, ranks[1]["parameters"][key]), key
    assert not torch.equal(ranks[0]["seen"], ranks[1]["seen"])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("compiled", ["false", "true"])
@pytest.mark.parametrize("method", ["rlpd", "wsrl"])
def test_processes_agree_where_the_critic_learns_alone(
    method: str, compiled: str, command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DDP_PROBE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    probe = "--trainer.callbacks=[{class_path: ddp_probe.Probe}]"
    overlay = ["--config", f"conf/methods/{method}.yaml", "--model.actor_every=3"]
    compiling = f"--model.compile_update={compiled}"
    process = command.start(*tiny(tmp_path, *overlay, compiling, *TWO_PROCESSES, probe))
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    ranks = [torch.load(tmp_path / f"online-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key, value in ranks[0]["parameters"].items():
        assert torch.equal(value, ranks[1]["parameters"][key]), key
    last = read_checkpoint(tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt")
    counts = {int(state["step"]) for state in last.optimizer["state"].values()}
    # WSRL's critic and policy go on from the 40 updates of the offline stage.
    assert counts == ({40, 13} if method == "rlpd" else {80, 53, 13})


@pytest.mark.slow
@pytest.mark.long
def test_the_evidence_is_that_of_all_processes(
    command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DDP_PROBE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    probe = "--trainer.callbacks=[{class_path: ddp_probe.Probe}]"
    short = "--data.env_kwargs={max_episode_steps: 20}"
    overlay = ("--config", "conf/methods/pex.yaml", short)
    process = command.start(*tiny(tmp_path, *overlay, *TWO_PROCESSES, probe))
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    ranks = [torch.load(tmp_path / f"online-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key, value in ranks[0]["parameters"].items():
        assert torch.equal(value, ranks[1]["parameters"][key]), key
    evidence = "admission.evidence."
    count = ranks[0]["parameters"][f"{evidence}frozen"][0]
    count += ranks[0]["parameters"][f"{evidence}full_count"]
    # 45 steps in each of two processes, in episodes of 20.
    assert int(count) == 4


@pytest.mark.long
def test_each_process_balances_its_own_replay_and_goes_on_with_it(command, tiny, tmp_path: Path):
    off2on = "--config=conf/methods/off2on.yaml"
    for more in ((), ("--ckpt_path=last", "--trainer.max_steps=60")):
        process = command.start(*tiny(tmp_path, off2on, *TWO_PROCESSES, *more))
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    path = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    assert checkpoint.header.gradient_steps == 60
    assert checkpoint.data_state is not None
    first, second = checkpoint.data_state["mix"]
    assert not torch.equal(first["offline"], second["offline"])
    assert [len(mix["online"]) for mix in (first, second)] == [55, 55]


@pytest.mark.slow
def test_each_process_steps_an_environment_of_its_own(two_processes: Path):
    ranks = [torch.load(two_processes / f"online-{rank}.pt", weights_only=True) for rank in (0, 1)]
    # start_steps + updates / UTD = 50 + 40, shared by two processes.
    assert [len(rank["collected"]) for rank in ranks] == [45, 45]
    assert [rank["env_steps"] for rank in ranks] == [90, 90]
    assert not torch.equal(ranks[0]["collected"], ranks[1]["collected"])


@pytest.mark.slow
def test_diagnostics_are_those_of_all_episodes_and_written_once(two_processes: Path):
    folder = two_processes / "tiny" / "online"
    found = json.loads((folder / "diagnostics.json").read_text())
    assert (found["gradient_steps"], found["env_steps"]) == (40, 90)
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "10", "20", "30", "40"]
    assert rows[0]["eval/offline/return"]
    # Two episodes, one in each process.
    starts = [float(rows[0][f"eval/starts_{what}"]) for what in ("kept", "lost", "won")]
    assert sum(starts[:2]) == 2 * float(rows[0]["eval/offline/success"])


@pytest.mark.slow
def test_a_distributed_run_resumes_with_the_same_number_of_processes(
    command, tiny, refused, two_processes: Path, tmp_path: Path
):
    last = two_processes / "tiny" / "online" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last).header.gradient_steps == 40
    one = command(*tiny(tmp_path, f"--ckpt_path={last}", "--trainer.max_steps=60"))
    refused(one, "2 process(es)", "--trainer.devices 2")
    process = command.start(
        *tiny(
            tmp_path,
            f"--ckpt_path={last}",
            "--trainer.max_steps=60",
            *TWO_PROCESSES,
        )
    )
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    header = read_checkpoint(tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt").header
    assert (header.gradient_steps, header.env_steps) == (60, 110)


@pytest.mark.slow
def test_a_signal_that_reaches_one_process_stops_them_all(command, tiny, wait_for, tmp_path: Path):
    process = command.start(
        *tiny(
            tmp_path,
            "--offline.max_steps=100000",
            "--evaluation.every=100000",
            *TWO_PROCESSES,
        )
    )
    metrics = tmp_path / "tiny" / "offline" / "metrics.csv"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "--ckpt_path last" in err
    last = tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last).header.gradient_steps > 0
    assert not (tmp_path / "tiny" / "online").exists()


@pytest.mark.long
@pytest.mark.slow
def test_fast_dev_run_works_on_two_processes(command, tiny, tmp_path: Path):
    process = command.start(
        *tiny(
            tmp_path,
            "--trainer.fast_dev_run=true",
            *TWO_PROCESSES,
        )
    )
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert not (tmp_path / "tiny").exists()
