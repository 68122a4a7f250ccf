import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pex_lightning.callbacks import loggers as module
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.loggers import (
    LoggedStage,
    check_installed,
    end_loggers,
    start_loggers,
)
from pex_lightning.errors import UserError


def stage(folder: Path, name: str, resumed_at: tuple[int, int] | None = None) -> LoggedStage:
    return LoggedStage("mine", folder, name, folder / name, {"dataset": "toy"}, resumed_at)


def train(
    toy: Any,
    name: str,
    *which: Any,
    method: str = "PEX",
    resumed_at: tuple[int, int] | None = None,
    more: tuple[Any, ...] = (),
) -> list[Any]:
    (toy.folder / name).mkdir(exist_ok=True)
    loggers = start_loggers(which, stage(toy.folder, name, resumed_at))
    evaluation = Evaluation(2, 5, seed=7, num_envs=1)
    toy.fit(toy.algorithm(method), 10, callbacks=[evaluation], logger=[*loggers, *more])
    end_loggers(loggers, failed=False)
    return loggers


def test_tensorboard_draws_over_environment_steps_online_and_updates_offline(toy: Any) -> None:
    train(toy, "offline", "tensorboard", method="IQL")
    train(toy, "online", "tensorboard")
    for name, steps in (("offline", [0, 5, 10]), ("online", [0, 15, 20])):
        found = EventAccumulator(str(toy.folder / name)).Reload()
        assert [event.step for event in found.Scalars("eval/return")] == steps
        assert "hp_metric" not in found.Tags()["scalars"]


def test_a_resumed_run_keeps_in_tensorboard_what_was_logged_at_its_checkpoint(toy: Any) -> None:
    folder = toy.folder / "online"
    folder.mkdir()
    (logger,) = start_loggers(["tensorboard"], stage(toy.folder, "online"))
    for step in (0, 15, 20):
        logger.log_metrics({"a": 1.0}, step)
    logger.finalize("success")
    (logger,) = start_loggers(["tensorboard"], stage(toy.folder, "online", (5, 15)))
    logger.log_metrics({"a": 2.0}, 20)
    logger.finalize("success")
    found = EventAccumulator(str(folder)).Reload().Scalars("a")
    assert [(event.step, event.value) for event in found] == [(0, 1.0), (15, 1.0), (20, 2.0)]


def test_mlflow_has_a_run_for_each_stage_and_goes_on_with_it(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    # The database that it is by default takes ten seconds to create.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{toy.folder / 'store'}")
    (offline,) = train(toy, "offline", "mlflow", method="IQL")
    (online,) = train(toy, "online", "mlflow")
    client = online._mlflow_client
    assert offline.run_id != online.run_id
    assert client.get_run(online.run_id).data.tags["mlflow.runName"] == "mine/online"
    assert client.get_run(online.run_id).info.status == "FINISHED"
    history = client.get_metric_history(online.run_id, "eval/return")
    assert [(metric.step, metric.value) for metric in history] == [
        (0, 15.0),
        (15, 15.0),
        (20, 15.0),
    ]
    (resumed,) = start_loggers(["mlflow"], stage(toy.folder, "online", (10, 20)))
    assert resumed.run_id == online.run_id
    assert client.get_run(online.run_id).info.status == "RUNNING"
    (new,) = start_loggers(["mlflow"], stage(toy.folder, "online"))
    assert new.run_id != online.run_id


def test_wandb_has_a_run_for_each_stage_and_goes_on_with_it(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (toy.folder / "online").mkdir()
    (toy.folder / "online" / "loggers.json").write_text('{"wandb": "before1"}')
    (logger,) = start_loggers(["wandb"], stage(toy.folder, "online", (10, 20)))
    run = logger.experiment
    assert (run.name, run.group, run.job_type) == ("mine/online", "mine", "online")
    assert run.config["dataset"] == "toy"
    assert run.id == "before1"
    logger.log_metrics({"a": 1.0}, 15)
    logger.log_metrics({"b": 1.0}, 15)
    logger.log_metrics({"a": 2.0}, 20)
    assert run.step == 20
    end_loggers([logger], failed=False)
    # Else the next stage would log into the same run.
    assert wandb.run is None
    assert list(toy.folder.glob("wandb/*/run-before1.wandb"))


@pytest.mark.parametrize("content", ["[1]", '{"mlflow": 3}', "{", "[" * 9_000])
def test_damaged_ids_are_told_and_begin_new_runs(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "loggers.json").write_text(content)
    assert module._read_ids(tmp_path) == {}
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_sentence(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda package: None)
    check_installed(["csv", "tensorboard"])
    with pytest.raises(UserError, match=rf"pip install 'pex-lightning\[{name}\]'") as error:
        check_installed([name])
    assert "\n" not in str(error.value)


def test_a_service_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "online").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"mlflow could not be started .* MLFLOW_TRACKING_URI"):
        start_loggers(["mlflow"], stage(tmp_path, "online"))


def test_a_service_that_fails_during_training_does_not_end_the_run(
    toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pytorch_lightning.loggers.logger import DummyLogger

    class Service(DummyLogger):
        calls = 0

        def log_metrics(self, *args: Any, **kwargs: Any) -> None:
            type(self).calls += 1
            raise ConnectionError("gone")

    monkeypatch.setattr(module, "MLFlowLogger", Service)
    caplog.set_level(logging.WARNING)
    train(toy, "online", "csv", more=(Service(),))
    assert Service.calls == 1
    assert "Service cannot be written to (ConnectionError: gone)" in caplog.text
    assert len((toy.folder / "online" / "metrics.csv").read_text().splitlines()) == 4


def test_other_loggers_failures_are_not_hidden(toy: Any) -> None:
    from pytorch_lightning.loggers.logger import DummyLogger

    class Own(DummyLogger):
        def log_metrics(self, *args: Any, **kwargs: Any) -> None:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        train(toy, "online", more=(Own(),))
