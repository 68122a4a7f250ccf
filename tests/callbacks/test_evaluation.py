import logging
from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.callbacks.evaluation import Evaluation, evaluation_metrics
from pex_lightning.evaluation.rollouts import EvaluationResult


def rows(toy: Any) -> list[dict[str, Any]]:
    import csv

    with (toy.folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def train(toy: Any, steps: int, every: int, name: str = "IQL", **settings: Any) -> Evaluation:
    evaluation = Evaluation(2, every, seed=7, num_envs=1)
    callbacks = [evaluation, *settings.pop("callbacks", [])]
    step = settings.pop("resume_step", 0)
    logger = MetricsCSV(toy.folder, step)
    toy.fit(toy.algorithm(name), steps, callbacks=callbacks, logger=logger, **settings)
    return evaluation


def test_it_runs_at_the_start_at_its_interval_and_at_the_end(toy: Any) -> None:
    evaluation = train(toy, 17, 7)
    found = rows(toy)
    assert [int(row["step"]) for row in found] == [0, 7, 14, 17]
    # An episode of the toy is cut after 5 steps worth 1 + … + 5; reports are raw.
    assert all(float(row["eval/return"]) == 15.0 for row in found)
    assert all(float(row["eval/length"]) == 5.0 for row in found)
    assert evaluation.latest == {"eval/return": 15.0, "eval/length": 5.0}


def test_online_rows_say_how_many_environment_steps_there_were(toy: Any) -> None:
    train(toy, 10, 5, name="PEX")
    assert [(row["step"], row["env_steps"]) for row in rows(toy)] == [
        ("0", "0"),
        ("5", "15"),
        ("10", "20"),
    ]


def test_success_is_logged_where_the_environment_says_it(toy: Any) -> None:
    data = toy.offline_data(env_kwargs={"reports_success": True})
    evaluation = train(toy, 5, 5, data=data)
    assert evaluation.latest["eval/success"] == 1.0
    assert float(rows(toy)[-1]["eval/success"]) == 1.0


@pytest.mark.parametrize(
    ("env_id", "score"),
    [
        ("pex_lightning/AntMaze-umaze-v0", 75.0),
        ("Hopper-v5", 100 * (0.75 + 20.272305) / (3234.3 + 20.272305)),
        ("PexTiny-v0", None),
    ],
)
def test_a_score_is_logged_where_a_reference_is_known(
    env_id: str, score: float | None, toy: Any
) -> None:
    result = EvaluationResult(np.array([1.0, 1.0, 0.0, 1.0]), np.array([3, 4, 5, 6]), None)
    metrics = evaluation_metrics(result, toy.description(id=env_id))
    assert metrics.pop("eval/score", None) == (None if score is None else pytest.approx(score))
    assert metrics == {"eval/return": 0.75, "eval/length": 4.5}


def test_an_interrupted_run_is_not_evaluated_at_its_end(toy: Any) -> None:
    train(toy, 100, 50, callbacks=[toy.StopAt(5)])
    assert [row["step"] for row in rows(toy)] == ["0"]


def test_a_resumed_run_is_not_evaluated_where_it_starts(toy: Any) -> None:
    from pex_lightning.callbacks.checkpoint import RunCheckpoint

    evaluation = Evaluation(2, 10, seed=7, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 10, evaluation)
    toy.fit(toy.algorithm("IQL"), 10, callbacks=[evaluation, checkpoint])
    resumed = train(toy, 20, 10, resume=checkpoint.last, resume_step=10)
    assert [row["step"] for row in rows(toy)] == ["20"]
    assert resumed.latest["eval/return"] == 15.0


def test_evaluating_changes_nothing_in_training(toy: Any) -> None:
    results = []
    for evaluate in (True, False):
        module = toy.algorithm("PEX")
        boundary = toy.Boundary(5)
        callbacks = [Evaluation(2, 5, seed=7, num_envs=1)] if evaluate else [boundary]
        torch.manual_seed(3)
        toy.fit(module, 20, callbacks=callbacks)
        assert module.training
        results.append([value.clone() for value in module.state_dict().values()])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_one_line_says_how_it_went(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pex_lightning"):
        train(toy, 5, 5, name="PEX")
    lines = [r.getMessage() for r in caplog.records if "step " in r.getMessage()[:5]]
    assert len(lines) == 2
    assert lines[1].startswith("step 5  env steps 15  return 15 ± 0  (2 episodes, ")


def test_its_environments_end_with_the_run(toy: Any) -> None:
    assert train(toy, 5, 5)._evaluator is None

    class Fail(type(toy.StopAt(0))):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("the user's callback broke")

    evaluation = Evaluation(2, 1, seed=7, num_envs=1)
    with pytest.raises(ValueError, match="broke"):
        toy.fit(toy.algorithm("IQL"), 5, callbacks=[evaluation, Fail(0)])
    assert evaluation._evaluator is None
