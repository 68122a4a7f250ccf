"""`diagnostics.json` and the table at the end of a stage."""

import json
import logging
from typing import Any

import pytest

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.diagnostics import FILE, DiagnosticsSummary
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.failure_signs import FailureSigns
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.callbacks.signs import Thresholds


def run(
    toy: Any,
    steps: int,
    name: str = "PEX",
    more: Any = (),
    saves: bool = False,
    resume: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    evaluation = Evaluation(2, 10, seed=7, num_envs=1, members="ends")
    metrics = TrainMetrics(evaluation)
    signs = FailureSigns(metrics, evaluation, Thresholds(reports=2))
    summary = DiagnosticsSummary(toy.folder, metrics, evaluation, signs)
    given = [evaluation, metrics, signs, summary, *more]
    if saves:
        given.append(RunCheckpoint(toy.folder, 10**6, evaluation))
    module = toy.algorithm(name, **settings)
    toy.fit(module, steps, callbacks=given, log_every_n_steps=5, resume=resume)
    found: dict[str, Any] = json.loads((toy.folder / FILE).read_text())
    return found


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "pex_lightning")
    return lambda: [record.getMessage() for record in caplog.records]


def test_it_says_who_acted_and_what_each_member_is_worth(toy: Any, messages: Any) -> None:
    found = run(toy, 20, inv_temperature=1e6)
    assert (found["gradient_steps"], found["env_steps"], found["finished"]) == (20, 30, True)
    offline, online = found["members"]["offline"], found["members"]["online"]
    assert offline["share"] + online["share"] == pytest.approx(1.0)
    assert offline["share_at_end"] + online["share_at_end"] == pytest.approx(1.0)
    for member in (offline, online):
        # The toy's episodes are all worth the same.
        assert member["alone"] == {"return": 15.0, "step": 20.0}
        assert isinstance(member["q_at_end"], float)
    assert found["evaluation"] == {
        "return": 15.0,
        "return_std": 0.0,
        "length": 5.0,
        "episodes": 2.0,
    }
    assert set(found["training"]["q_disagreement"]) == {"start", "end"}
    assert found["signs"][0]["sign"] == "entropy_collapsed"
    assert found["signs"][0]["step"] == 10
    table = messages()[-11:]
    assert any(line.split()[:1] == ["offline"] and "return 15" in line for line in table)
    assert "entropy_collapsed (step 10)" in table[-1]
    assert str(toy.folder / FILE) in table[-1]
    assert max(map(len, table[:-1])) <= 100


def test_shares_of_the_whole_run_are_those_of_all_its_frames(toy: Any) -> None:
    rows: list[dict[str, float]] = []

    class Rows(type(toy.StopAt(0))):
        def __init__(self) -> None: ...

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            metrics = next(c for c in trainer.callbacks if isinstance(c, TrainMetrics))
            if metrics.latest and metrics.latest not in rows:
                rows.append(metrics.latest)

    found = run(toy, 20, more=[Rows()])
    frames = [15, 5, 5, 5]
    assert [row["env_steps"] for row in rows] == [15, 20, 25, 30]
    shares = [row["train/offline_policy_share"] for row in rows]
    mean = sum(n * share for n, share in zip(frames, shares, strict=True)) / 30
    assert found["members"]["offline"]["share"] == pytest.approx(mean)


def test_a_method_with_one_policy_tells_what_it_has(toy: Any, messages: Any) -> None:
    found = run(toy, 20, name="OnlineIQL")
    assert found["members"] == {}
    assert {"q_disagreement", "q_size", "weight_at_cap", "weight_near_zero"} <= set(
        found["training"]
    )
    assert not any("all together" in line for line in messages())
    assert messages()[-1].startswith("signs of failure: ")


def test_a_run_that_is_resumed_tells_of_all_of_it(toy: Any, messages: Any) -> None:
    straight = run(toy, 20, inv_temperature=1e6)
    half = run(toy, 20, more=[toy.StopAt(10)], saves=True, inv_temperature=1e6)
    assert (half["finished"], half["gradient_steps"]) == (False, 10)
    told = len(messages())
    resumed = run(toy, 20, saves=True, resume=toy.folder / "last.ckpt", inv_temperature=1e6)
    assert messages()[told:]
    assert resumed["training"]["q_size"]["start"] == straight["training"]["q_size"]["start"]
    assert resumed["signs"] == straight["signs"]
    for name, member in resumed["members"].items():
        assert {**member, "q_at_end": 0} == {**straight["members"][name], "q_at_end": 0}


def test_an_unfinished_run_shows_no_table(toy: Any, messages: Any) -> None:
    run(toy, 20, more=[toy.StopAt(10)])
    assert not any(line.startswith("signs of failure") for line in messages())


def test_a_checkpoint_from_before_there_were_diagnostics_goes_on(toy: Any) -> None:
    evaluation = Evaluation(2, 10, seed=7, num_envs=1)
    toy.fit(
        toy.algorithm("PEX"),
        10,
        callbacks=[evaluation, RunCheckpoint(toy.folder, 10**6, evaluation)],
    )
    found = run(toy, 20, saves=True, resume=toy.folder / "last.ckpt")
    assert found["members"]["offline"]["share"] + found["members"]["online"]["share"] == 1.0
    assert found["members"]["offline"]["alone"]["step"] == 20.0


def test_what_is_not_finite_is_null(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    take_in = DiagnosticsSummary._take_in

    def broken(self: DiagnosticsSummary, module: Any) -> None:
        take_in(self, module)
        self._last["train/q_size"] = float("inf")
        self._first.setdefault("train/q_size", float("nan"))

    monkeypatch.setattr(DiagnosticsSummary, "_take_in", broken)
    assert run(toy, 10)["training"]["q_size"]["end"] is None
