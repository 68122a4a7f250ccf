"""What is shown while a stage learns, on a terminal and elsewhere."""

import io
import sys
from typing import Any

import pytest

from pex_lightning.callbacks import progress
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.progress import RunProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFRESH_SECONDS", "REFRESH_SECONDS_IN_A_FILE"):
        monkeypatch.setattr(progress, name, 0.0)


def shown(toy: Any, name: str, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    evaluation = Evaluation(4, 5, seed=0, num_envs=1, members="ends")
    bar = RunProgressBar("online" if name == "PEX" else "offline", evaluation, 2, 2)
    settings = {"start_steps": 1500} if name == "PEX" else {}
    data = toy.data_for(toy.algorithm(name), **settings)
    toy.fit(toy.algorithm(name), 15, data, callbacks=[evaluation, bar], enable_progress_bar=True)
    return stream.getvalue().replace("\r", "\n").strip().splitlines()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("name", ["IQL", "PEX"])
def test_it_shows_the_stage_its_updates_the_score_and_who_acts(
    name: str, stream: Any, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = shown(toy, name, stream(), monkeypatch)[-1]
    assert ("online 2/2" if name == "PEX" else "offline 2/2") in last
    assert ("15/15" if stream is Terminal else "15 of 15 updates (100 %)") in last
    assert "return 15.0" in last
    assert "updates/s" in last
    assert ("offline acts" in last) == (name == "PEX")
    assert ("1,515 env steps" in last) == (name == "PEX")


@pytest.mark.usefixtures("often")
def test_it_tells_of_evaluations_and_of_the_time_left(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    lines = shown(toy, "PEX", io.StringIO(), monkeypatch)
    assert any("evaluating: 2 of 4 episodes, 0 s" in line for line in lines)
    assert any("evaluating offline alone: 2 of 4 episodes" in line for line in lines)
    assert any("collecting: 0 of 1,505 environment steps, return 15.0" in line for line in lines)
    assert any("10 of 15 updates (67 %), " in line and " left, " in line for line in lines)
    assert not any("|" in line or "\x1b" in line for line in lines)


def test_where_it_is_no_terminal_lines_are_rare(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(toy, "IQL", io.StringIO(), monkeypatch)
    assert [line for line in lines if line.startswith("offline 2/2")] == [
        "offline 2/2: 0 of 15 updates (0 %)",
        lines[-1],
    ]


def test_the_time_left_counts_evaluations(toy: Any) -> None:
    evaluation = Evaluation(1, 10, seed=0, members="ends")
    assert evaluation.runs_left(0, 25, members=1) == 3
    assert evaluation.runs_left(20, 25, members=1) == 1
    assert evaluation.runs_left(0, 25, members=2) == 3 + 2
    assert evaluation.runs_left(25, 25, members=2) == 0
    always = Evaluation(1, 10, seed=0, members="always")
    assert always.runs_left(10, 30, members=2) == 2 * 3
    never = Evaluation(1, 10, seed=0)
    assert never.runs_left(10, 30, members=2) == 2
