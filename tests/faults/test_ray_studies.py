"""A study on a Ray cluster of several nodes, one of which is killed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pex_lightning.callbacks.status import read_status
from pex_lightning.studies.records import read_record
from tiny_studies import write_study

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'pex-lightning[ray]'")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores, so that runs are on the two other nodes."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def study(command: Any, cluster: Any, file: Path) -> subprocess.Popen[str]:
    arguments = ["--config", str(file), "--study.backend=ray"]
    return command.start("study", *arguments, f"--study.address={cluster.address}")


def node_of(run: Path, cluster: Any) -> Any:
    """The node whose processes a run's process descends from."""
    process = json.loads((run / "online" / "status.json").read_text())["process"]
    ancestors = {parent.pid for parent in psutil.Process(process).parents()}
    for node in cluster.worker_nodes:
        started = {info.process.pid for each in node.all_processes.values() for info in each}
        if started & ancestors:
            return node
    raise AssertionError("the run is on no node")


@pytest.mark.long
@pytest.mark.slow
def test_a_run_whose_node_dies_goes_on_elsewhere_from_its_checkpoint(
    command, wait_for, cluster, tmp_path: Path
) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    live = study(command, cluster, write_study(tmp_path, 3_000, seeds=[0, 1]))
    run = tmp_path / "demo" / "maze-direct-0"
    last = run / "online" / "checkpoints" / "last.ckpt"
    try:
        wait_for(last.exists, live, 200)
        cluster.remove_node(node_of(run, cluster), allow_graceful=False)
        out, err = live.communicate(timeout=400)
    finally:
        live.kill()
    assert live.returncode == 0, out + err
    for seed in (0, 1):
        assert read_record(tmp_path / "demo" / f"maze-direct-{seed}").state == "finished"
    status = read_status(run / "online")
    assert status is not None
    assert status.gradient_steps == 3_000
    assert status.first_step > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_study_on_ray_that_is_stopped_saves(command, wait_for, cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    # The second run waits in Ray's queue.
    live = study(command, cluster, write_study(tmp_path, 10**6, seeds=[0, 1]))
    run = tmp_path / "demo" / "maze-direct-0"
    try:
        wait_for(lambda: read_status(run / "online") is not None, live, 200)
        live.terminate()
        out, err = live.communicate(timeout=120)
    finally:
        live.kill()
    assert live.returncode == 143, out + err
    assert read_record(run).state == "stopped"
    assert (run / "online" / "checkpoints" / "last.ckpt").exists()
    assert "Traceback" not in err
