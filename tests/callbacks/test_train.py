"""Training from Python leaves and shows what the command does."""

import csv
import signal
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback

import pex_lightning
from pex_lightning.errors import UserError

EVALUATION = {"episodes": 2, "every": 10, "num_envs": 1}


def evaluated(stage: Path) -> list[int]:
    with (stage / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["eval/return"]]


def test_both_stages_leave_metrics_and_checkpoints_and_say_what_came_of_them(
    toy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := StringIO())
    settings = {
        "evaluation": pex_lightning.EvaluationSettings(**EVALUATION),
        "accelerator": "cpu",
        "log_every_n_steps": 5,
    }
    data = toy.online_data()
    offline = pex_lightning.train(
        toy.algorithm("IQL"), data.offline_stage(), tmp_path / "x", max_steps=20, **settings
    )
    module = toy.algorithm("PEX", admission_steps=100)
    online = pex_lightning.train(
        module, data, tmp_path / "x", max_steps=20, offline=offline, **settings
    )
    assert offline == tmp_path / "x" / "offline" / "checkpoints" / "last.ckpt"
    for last in (offline, online):
        assert last.exists()
        assert last.with_name("best.ckpt").exists()
        assert evaluated(last.parent.parent) == [0, 10, 20]
    text = stream.getvalue()
    for words in (
        " of training and evaluation: " + str(tmp_path / "x"),
        "hand-over",
        "Who acted: offline",
        "the new policy was a candidate in only 20 % of choices, so that",
        "20 of 20 updates",
    ):
        assert words in text
    for advert in ("Tip", "Epoch", "Deprecat", "Warning:tensorboard", "GPU available"):
        assert advert not in text

    with pytest.raises(UserError, match="already holds a run"):
        pex_lightning.train(module, data, tmp_path / "x", max_steps=30, **settings)
    again = toy.algorithm("PEX", admission_steps=100)
    pex_lightning.train(
        again, toy.online_data(), tmp_path / "x", max_steps=30, resume=True, **settings
    )
    assert evaluated(online.parent.parent) == [0, 10, 20, 30]


class Raises(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, *args: Any) -> None:
        raise self.error


def test_environment_steps_end_a_stage_from_python_too(toy: Any, tmp_path: Path) -> None:
    settings = {"episodes": 2, "every_env_steps": 10, "num_envs": 1}
    last = pex_lightning.train(
        toy.algorithm("PEX"),
        toy.online_data(start_steps=20, max_env_steps=45),
        tmp_path / "x",
        max_steps=-1,
        offline=toy.offline_path,
        evaluation=pex_lightning.EvaluationSettings(**settings),
        accelerator="cpu",
    )
    assert evaluated(last.parent.parent) == [0, 10, 20, 25]


def test_a_trainer_that_would_go_on_after_them_is_refused(toy: Any) -> None:
    data = toy.online_data(start_steps=20, max_env_steps=45)
    with pytest.raises(UserError, match=r"Give it max_steps=25, or use pex_lightning.train"):
        toy.fit(toy.algorithm("PEX"), 26, data=data)
    assert toy.fit(toy.algorithm("PEX"), 25, data=data).global_step == 25


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_within_training_and_an_exit_of_the_users_stay_what_they_are(
    error: BaseException, toy: Any, tmp_path: Path
) -> None:
    data, before = toy.online_data().offline_stage(), signal.getsignal(signal.SIGINT)
    with pytest.raises(type(error)) as raised:
        pex_lightning.train(
            toy.algorithm("IQL"),
            data,
            tmp_path / "x",
            max_steps=20,
            evaluation=pex_lightning.EvaluationSettings(**EVALUATION),
            accelerator="cpu",
            callbacks=[Raises(error)],
        )
    assert getattr(raised.value, "code", None) == getattr(error, "code", None)
    assert signal.getsignal(signal.SIGINT) is before
