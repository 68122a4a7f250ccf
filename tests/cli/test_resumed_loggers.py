"""A run that is stopped online and goes on: what W&B, MLflow, TensorBoard and metrics.csv hold."""

from __future__ import annotations

import csv
import json
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from commands import Command, TinyArgs

STEPS = [*range(0, 401, 10)]
STARTED = 50
"""Environment steps before the first update."""


def env_steps(step: int) -> int:
    return STARTED + step if step else 0


@pytest.fixture(scope="module")
def resumed(
    command: Command,
    tiny: TinyArgs,
    wait_for: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """The folder of all runs."""
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    root = tmp_path_factory.mktemp("resumed")
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_MODE", "offline")
    patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    patch.setenv("MLFLOW_TRACKING_URI", f"file:{root / 'store'}")
    more = ["--trainer.max_steps=400", "--run.loggers=[csv,tensorboard,wandb,mlflow]"]
    process = command.start(*tiny(root, *more))
    metrics = root / "tiny/online/metrics.csv"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 10, process)
    process.send_signal(signal.SIGTERM)
    assert "Stopped and saved" in process.communicate()[1]
    process = command.start(*tiny(root, *more, "--ckpt_path=last"))
    said = process.communicate()[1]
    assert process.returncode == 0, said
    yield root
    patch.undo()


@pytest.mark.long
@pytest.mark.slow
def test_metrics_and_tensorboard_have_every_step_once(resumed: Path) -> None:
    online = resumed / "tiny/online"
    with (online / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == STEPS
    found = EventAccumulator(str(online), size_guidance={"scalars": 0}).Reload()
    logged = [event.step for event in found.Scalars("train/q_loss")]
    assert logged == [env_steps(step) for step in STEPS[1:]]


@pytest.mark.long
@pytest.mark.slow
def test_mlflow_has_one_run_with_every_step(resumed: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{resumed / 'store'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "pex-lightning"]
    runs = client.search_runs([experiment.experiment_id])
    names = {run.data.tags["mlflow.runName"]: run for run in runs}
    assert sorted(names) == ["tiny/offline", "tiny/online"]
    assert len(runs) == 2
    run = names["tiny/online"]
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/q_loss")
    assert [metric.step for metric in history] == [env_steps(step) for step in STEPS[1:]]


def records(path: Path) -> Iterator[Any]:
    """What a `.wandb` file holds: a log of LevelDB's format after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # The whole record, or its last part.
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


@pytest.mark.long
@pytest.mark.slow
def test_wandb_has_one_run_whose_steps_go_on(resumed: Path) -> None:
    run_id = json.loads((resumed / "tiny/online/loggers.json").read_text())["wandb"]
    files = sorted(resumed.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(files) == 2
    rows = []
    for path in files:
        for record in records(path):
            if record.WhichOneof("record_type") == "history":
                items = {(i.key or i.nested_key[0]): i.value_json for i in record.history.item}
                rows.append([int(items[key]) for key in ("_step", "trainer/global_step")])
                assert int(items["env_steps"]) == env_steps(rows[-1][0])
    # W&B's own step, by which a server tells rows apart, does not begin anew.
    assert rows == [[step, step] for step in STEPS]
