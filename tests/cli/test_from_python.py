"""`pex_lightning.train` does what the command does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import pex_lightning
from commands import Command
from pex_lightning.algorithms import IQL, PEX
from pex_lightning.data.online import OnlineData
from pex_lightning.handover import read_checkpoint

_TIMES = {"seconds", "train/updates_per_second"}


@pytest.fixture(scope="module")
def trained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `finished`, from Python."""
    del finished  # has made the dataset
    folder = tmp_path_factory.mktemp("python") / "mine"
    shared = {"expectile": 0.9, "beta": 10.0, "hidden_dims": [16, 16]}
    data = OnlineData(
        env="pex_lightning/PointMaze-Medium-v0",
        source="make",
        dataset="pointmaze-medium",
        rows=2_000,
        reward_transform="subtract_one",
        batch_size=8,
        chunk_size=5,
        start_steps=50,
    )
    settings = {
        "evaluation": pex_lightning.EvaluationSettings(episodes=1, every=20),
        "save_every": 20,
        "log_every_n_steps": 10,
    }
    offline = pex_lightning.train(
        IQL(cosine_decay=True, **shared), data.offline_stage(), folder, max_steps=40, **settings
    )
    module = PEX(
        inv_temperature=10.0, admission="evidence", learner_start="copy", imitates="batch", **shared
    )
    pex_lightning.train(module, data, folder, max_steps=40, offline=offline, **settings)
    return folder


def rows(stage: Path) -> list[dict[str, str]]:
    with (stage / "metrics.csv").open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in _TIMES}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("stage", ["offline", "online"])
def test_parameters_and_metrics_are_those_of_the_command(
    stage: str, finished: Path, trained: Path
) -> None:
    by_command, by_train = (
        torch.load(run / stage / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (finished, trained)
    )
    assert by_command.keys() == by_train.keys()
    for name, value in by_command.items():
        assert torch.equal(by_train[name], value), name
    assert rows(trained / stage) == rows(finished / stage)
    headers = [
        read_checkpoint(run / stage / "checkpoints/last.ckpt").header for run in (finished, trained)
    ]
    assert headers[0].env_steps == headers[1].env_steps


def test_its_folder_has_a_report(trained: Path, command: Command, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    outcome = command("report", str(trained), "--out", str(page))
    assert outcome.code == 0, outcome.err
    text = page.read_text()
    for words in (
        "Learning curves",
        "Which member acted",
        "config.yaml is missing, as in runs of `train`",
        "Without a provenance.json, as runs from Python and of older versions are: mine.",
    ):
        assert words in text, words
