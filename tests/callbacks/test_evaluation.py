import logging
from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.callbacks.csv_logger import MetricsCSV
from pex_lightning.callbacks.evaluation import Evaluation, evaluation_metrics
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.evaluation.rollouts import EvaluationResult
from pex_lightning.policies.composite import CompositePolicy


def rows(toy: Any) -> list[dict[str, Any]]:
    import csv

    with (toy.folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def train(toy: Any, steps: int, every: int, name: str = "IQL", **settings: Any) -> Evaluation:
    members = settings.pop("members", "never")
    evaluation = Evaluation(2, every, seed=7, num_envs=1, members=members)
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
    assert evaluation.latest == {
        "eval/return": 15.0,
        "eval/return_std": 0.0,
        "eval/length": 5.0,
        "eval/episodes": 2.0,
    }


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
    assert metrics.pop("eval/return_std") == pytest.approx(3**0.5 / 4)
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


def test_evaluating_and_reporting_change_nothing_in_training(toy: Any) -> None:
    results = []
    for evaluate in (True, False):
        module = toy.algorithm("PEX")
        boundary = toy.Boundary(5)
        evaluation = Evaluation(2, 5, seed=7, num_envs=1, members="always")
        callbacks = [evaluation, TrainMetrics(evaluation)] if evaluate else [boundary]
        torch.manual_seed(3)
        toy.fit(module, 20, callbacks=callbacks, log_every_n_steps=5)
        assert module.training
        results.append([value.clone() for value in module.state_dict().values()])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("members", "offline_at", "online_at"),
    [
        ("never", [], []),
        ("ends", ["0", "15"], ["15"]),
        ("always", ["0", "5", "10", "15"], ["0", "5", "10", "15"]),
    ],
)
def test_members_are_evaluated_alone_when_they_are_to_be(
    members: str, offline_at: list[str], online_at: list[str], toy: Any
) -> None:
    train(toy, 15, 5, name="PEX", members=members)
    found = rows(toy)
    assert [row["step"] for row in found] == ["0", "5", "10", "15"]
    assert [row["step"] for row in found if "eval/offline/return" in row] == offline_at
    assert [row["step"] for row in found if "eval/online/return" in row] == online_at


@pytest.mark.parametrize("name", ["PEX", "JSRL", "BT"])
def test_a_member_alone_acts_as_that_member_on_the_same_starts(
    name: str, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = toy.online_data(env_kwargs={"reports_success": True})
    with caplog.at_level(logging.INFO, "pex_lightning"):
        evaluation = train(toy, 5, 5, name=name, members="always", data=data)
    for member in ("offline", "online"):
        assert evaluation.latest[f"eval/{member}/return"] == 15.0
        assert f"  {member} alone: return 15 ± 0  success 100 %" in caplog.text
    kept = [evaluation.latest[f"eval/starts_{what}"] for what in ("kept", "lost", "won")]
    assert kept == [2.0, 0.0, 0.0]


def test_one_policy_has_no_members_to_evaluate(toy: Any) -> None:
    evaluation = train(toy, 5, 5, members="always")
    names = {"eval/return", "eval/return_std", "eval/length", "eval/episodes"}
    assert set(evaluation.latest) == names


@pytest.mark.parametrize("able", [(), (0,), (1,)])
def test_members_that_cannot_act_alone_are_left_out(
    able: tuple[int, ...], toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = CompositePolicy.alone

    def perhaps(self: CompositePolicy, member: int) -> Any:
        return alone(self, member) if member in able else None

    monkeypatch.setattr(CompositePolicy, "alone", perhaps)
    evaluation = train(toy, 5, 5, name="PEX", members="always")
    found = {name for name in ("offline", "online") if f"eval/{name}/return" in evaluation.latest}
    assert found == {("offline", "online")[member] for member in able}


def test_the_solved_starts_outlast_a_resume_with_the_same_episodes_alone(toy: Any) -> None:
    from pex_lightning.callbacks.checkpoint import RunCheckpoint

    def run(steps: int, episodes: int = 2, resume: Any = None) -> Evaluation:
        evaluation = Evaluation(episodes, 5, seed=7, num_envs=1, members="ends")
        saver = RunCheckpoint(toy.folder, 10**6, evaluation)
        data = toy.online_data(env_kwargs={"reports_success": True})
        stop = [toy.StopAt(steps)]
        module = toy.algorithm("PEX")
        toy.fit(module, 20, data=data, callbacks=[evaluation, *stop, saver], resume=resume)
        return evaluation

    run(5)
    path = toy.folder / "last.ckpt"
    resumed = run(10, resume=path)
    # The offline policy is not evaluated again, as it is known what it solves.
    assert "eval/offline/return" not in resumed.latest
    assert resumed.latest["eval/starts_kept"] == 2.0
    other = run(15, episodes=3, resume=path)
    assert "eval/offline/return" in other.latest
    assert other.latest["eval/starts_kept"] == 3.0


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
