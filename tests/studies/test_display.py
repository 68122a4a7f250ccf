"""What the terminal shows of a study."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pex_lightning.callbacks.status import STATUS
from pex_lightning.studies.display import StudyDisplay
from pex_lightning.studies.plan import PlannedRun, RunShape
from pex_lightning.studies.progress import Durations, duration_text, progress
from pex_lightning.studies.records import RunRecord

SHAPE = RunShape(None, 100, 300, 2, 3, 5, 1)


def run(root: Path, variant: str = "one", **record: object) -> PlannedRun:
    return PlannedRun(replace(RunRecord("demo", variant, "t", 0), **record), root, SHAPE)  # type: ignore[arg-type]


def write_status(
    planned: PlannedRun,
    stage: str,
    step: int,
    score: float | None = 12.5,
    start: tuple[float, int] = (0.0, 0),
) -> None:
    folder = planned.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    status = {
        "gradient_steps": step,
        "max_steps": 300,
        "env_steps": step,
        "score": score,
        "updates_per_second": 123.4,
        "train_seconds": 1.0 + start[0],
        "evaluation_seconds": 1.0,
        "evaluations": 1,
        "first_step": 0,
        "start_seconds": start[0],
        "start_step": start[1],
    }
    (folder / STATUS).write_text(json.dumps(status))


def test_progress_counts_both_stages(tmp_path: Path):
    planned = run(tmp_path)
    assert progress(planned).stage == "starting"
    write_status(planned, "offline", 50)
    assert progress(planned).share == pytest.approx(50 / 400)
    write_status(planned, "online", 100)
    assert progress(planned).share == pytest.approx(200 / 400)
    for damaged in ("", "{}", "[1]", '{"gradient_steps": "x"}'):
        (planned.folder / "online" / STATUS).write_text(damaged)
        assert progress(planned).stage == "offline"


def test_remaining_time_comes_from_what_runs_took(tmp_path: Path):
    durations = Durations()
    one, two = run(tmp_path), run(tmp_path, "two")
    assert durations.left([one, two], [], 2) is None
    # 2 s for 100 updates of 400.
    write_status(one, "offline", 100)
    assert durations.left_of(one) == pytest.approx(6.0)
    assert durations.left([two], [one], 1) == pytest.approx(8.0 + 6.0)
    # What comes once, before the first updates, is not taken for the pace of the others.
    write_status(one, "offline", 100, start=(40.0, 0))
    assert durations.left_of(one) == pytest.approx(6.0)
    assert durations.left([two], [one], 1) == pytest.approx(40.0 + 8.0 + 6.0)
    write_status(one, "offline", 20, start=(40.0, 20))
    assert durations.left_of(one) is None
    durations.add(run(tmp_path, seconds=100.0))
    assert durations.left([one, two], [], 2) == 100.0
    durations.add(run(tmp_path, "two", seconds=300.0))
    # A run takes what it takes, however many go on beside it.
    assert durations.left([one, two], [], 4) == 300.0
    write_status(one, "online", 100)
    assert durations.left([], [one], 1) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (3.2, "3 s"), (65, "1 min 5 s"), (1830, "30 min 30 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float | None, text: str):
    assert duration_text(seconds) == text


def shown(root: Path, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=110, highlight=False)
    going, bad = run(root), run(root, "two", state="failed", reason="[red]no data[/red]")
    write_status(going, "online", 1200)
    with StudyDisplay(console, "demo", 4, 2, Durations()) as display:
        display.started(going)
        display.show([run(root, "three")], [going])
        display.ended(bad)
        done = replace(going, record=replace(going.record, state="finished", seconds=65.0))
        display.ended(done)
    return out.getvalue()


def test_a_terminal_shows_a_table_and_what_has_ended(tmp_path: Path):
    text = shown(tmp_path, terminal=True)
    for part in ("t-one-0", "online", "1,200", "123", "12.5", "1 waiting", "0 of 4 finished"):
        assert part in text
    # What a run says is no markup.
    assert "[red]no data[/red]" in text


def test_no_colours_where_none_are_wanted_and_plain_lines_on_a_dumb_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    colours = re.compile(r"\x1b\[[0-9;]*(3|4|9|10)[0-9][0-9;]*m")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert colours.search(shown(tmp_path, terminal=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours.search(shown(tmp_path, terminal=True))
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(tmp_path, terminal=True)


def test_elsewhere_plain_lines_say_it(tmp_path: Path):
    text = shown(tmp_path, terminal=False)
    assert "\x1b" not in text
    started, failed, finished = text.splitlines()
    assert started == "started   t-one-0"
    assert failed.startswith("failed    t-two-0")
    assert str(tmp_path) in failed
    assert finished == "finished  t-one-0  1 min 5 s  score 12.5"
