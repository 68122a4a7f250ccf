"""A study's runs with a runner that only pretends: what starts when, and what is noted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pex_lightning.callbacks.status import STATUS
from pex_lightning.errors import UserError
from pex_lightning.files.locks import owned
from pex_lightning.processes import STOP_SIGNALS
from pex_lightning.studies import supervisor as supervisor_module
from pex_lightning.studies.plan import PlannedRun, RunShape, plan, to_do
from pex_lightning.studies.records import read_record, write_record
from pex_lightning.studies.runner import RunEnd
from pex_lightning.studies.settings import Overlay, StudySettings
from pex_lightning.studies.supervisor import Supervisor
from pex_lightning.studies.versions import CodeVersion

VERSION = CodeVersion("1.2.3", "abc")


def shape(stage: str | None = None) -> RunShape:
    return RunShape(stage, 10, 20, 2, 3, 5, 1)


def planned(
    root: Path,
    variants: Sequence[str] = ("one", "two"),
    seeds: Sequence[int] = (0,),
    stage: str | None = None,
    retry: str | None = None,
) -> list[PlannedRun]:
    settings = StudySettings(
        "demo",
        {"t": Overlay()},
        {name: Overlay() for name in variants},
        list(seeds),
        root=str(root),
    )
    return to_do(plan(settings, {(name, "t"): shape(stage) for name in variants}), retry)


class Pretended:
    """A run that ends after some polls, as it is told."""

    def __init__(self, run: PlannedRun, end: RunEnd, polls: int) -> None:
        self.run, self.end, self.polls = run, end, polls
        self.asked = self.killed = False

    def poll(self) -> RunEnd | None:
        self.polls -= 1
        if self.killed:
            return RunEnd(-9, "killed", "here")
        if self.asked:
            return RunEnd(143, None, "here")
        return self.end if self.polls <= 0 else None

    def stop(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed = True


class PretendingRunner:
    def __init__(
        self, ends: dict[str, RunEnd] | None = None, capacity: int | None = 2, polls: int = 2
    ) -> None:
        self.capacity = capacity
        self.ends, self.polls = ends or {}, polls
        self.started: list[Pretended] = []
        self.most = 0

    def start(self, run: PlannedRun) -> Pretended:
        end = self.ends.get(run.record.name, RunEnd(0, None, "here"))
        self.started.append(Pretended(run, end, self.polls))
        return self.started[-1]

    def close(self) -> None:
        pass


class Watcher:
    """A display that calls a function at every look."""

    def __init__(self, look: Callable[[int, int], None] = lambda waiting, running: None) -> None:
        self.look = look
        self.events: list[str] = []
        self.most = 0

    def started(self, run: PlannedRun) -> None:
        self.events.append(f"start {run.record.variant}")

    def ended(self, run: PlannedRun) -> None:
        self.events.append(f"end {run.record.variant}")

    def show(self, waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> None:
        self.most = max(self.most, len(running))
        self.look(len(waiting), len(running))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "POLL_SECONDS", 0.001)


def test_all_runs_are_done_and_no_more_at_a_time_than_fit(tmp_path: Path):
    runs, watcher = planned(tmp_path, ("one", "two", "three"), (0, 1)), Watcher()
    supervisor = Supervisor(runs, PretendingRunner(), watcher, VERSION)
    supervisor.work()
    assert watcher.most == 2
    assert len(supervisor.ended) == 6
    for run in runs:
        record = read_record(run.folder)
        assert (record.state, record.attempts, record.exit_code) == ("finished", 1, 0)
        assert (record.version, record.git_revision, record.host) == ("1.2.3", "abc", "here")
    assert planned(tmp_path, ("one", "two", "three"), (0, 1)) == []


def test_a_failed_run_stops_no_other_and_can_be_run_again_alone(tmp_path: Path):
    bad = {"t-one-0": RunEnd(2, "no such data", "here")}
    Supervisor(planned(tmp_path), PretendingRunner(bad), Watcher(), VERSION).work()
    record = read_record(tmp_path / "demo" / "t-one-0")
    assert (record.state, record.reason) == ("failed", "no such data")
    assert read_record(tmp_path / "demo" / "t-two-0").state == "finished"
    assert planned(tmp_path) == []
    again = planned(tmp_path, retry="failed")
    assert [run.record.name for run in again] == ["t-one-0"]
    assert planned(tmp_path, retry="t-one-0") == again
    Supervisor(again, PretendingRunner(), Watcher(), VERSION).work()
    record = read_record(tmp_path / "demo" / "t-one-0")
    assert (record.state, record.reason, record.attempts) == ("finished", None, 2)
    with pytest.raises(UserError, match="t-one-0: no failed run is called so; failed: none"):
        planned(tmp_path, retry="t-one-0")


def test_runs_that_share_an_offline_stage_wait_for_the_first(tmp_path: Path):
    runs = planned(tmp_path, ("one", "two"), (0, 1), stage="same")
    watcher, runner = Watcher(), PretendingRunner(polls=50)

    def look(waiting: int, running: int) -> None:
        if (running, waiting) == (2, 2) and len(runner.started) == 2:
            # One of each seed, although two of the same seed come first.
            assert {each.run.record.seed for each in runner.started} == {0, 1}
            online = runner.started[0].run.folder / "online"
            online.mkdir()
            (online / STATUS).write_text("{}")
            runner.capacity = 3

    watcher.look = look
    Supervisor(runs, runner, watcher, VERSION).work()
    assert [each.run.record.name for each in runner.started][2] == "t-two-0"
    assert watcher.most == 3


def test_stopping_lets_runs_save_and_starts_no_more(tmp_path: Path):
    runner = PretendingRunner(capacity=1, polls=10**9)
    supervisor = Supervisor(planned(tmp_path), runner, watcher := Watcher(), VERSION)
    watcher.look = lambda waiting, running: supervisor.stop() if not supervisor.stopped else None
    supervisor.work()
    assert [each.asked for each in runner.started] == [True]
    record = read_record(tmp_path / "demo" / "t-one-0")
    assert (record.state, record.reason) == ("stopped", None)
    assert [run.record.state for run in planned(tmp_path)] == ["stopped", "waiting"]


@pytest.mark.parametrize("code", [code for n in STOP_SIGNALS for code in (128 + n, -n)])
def test_a_run_that_another_has_asked_to_stop_goes_on_next_time(tmp_path: Path, code: int):
    ended = {"t-one-0": RunEnd(code, None, "here")}
    Supervisor(planned(tmp_path), PretendingRunner(ended), Watcher(), VERSION).work()
    assert read_record(tmp_path / "demo" / "t-one-0").state == "stopped"
    assert [run.record.name for run in planned(tmp_path)] == ["t-one-0"]


def test_stopping_twice_ends_runs_at_once(tmp_path: Path):
    runner = PretendingRunner(capacity=1, polls=10**9)
    supervisor = Supervisor(planned(tmp_path), runner, watcher := Watcher(), VERSION)

    class Deaf(Pretended):
        def stop(self) -> None:
            supervisor.stop()

    runner.start = lambda run: Deaf(run, RunEnd(0, None, ""), 10**9)  # type: ignore[method-assign]
    watcher.look = lambda waiting, running: supervisor.stop() if not supervisor.stopped else None
    supervisor.work()
    assert read_record(tmp_path / "demo" / "t-one-0").state == "stopped"


def test_an_error_of_the_study_lets_its_runs_save(tmp_path: Path):
    runner = PretendingRunner(polls=10**9)

    def full(waiting: int, running: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Supervisor(planned(tmp_path), runner, Watcher(full), VERSION, patience=0.1).work()
    assert all(each.asked for each in runner.started)


def test_a_folder_that_a_dying_run_still_holds_is_waited_for(tmp_path: Path):
    run, other = planned(tmp_path)
    run.folder.mkdir(parents=True)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with owned(run.folder):
            held.set()
            let_go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    watcher = Watcher(lambda waiting, running: let_go.set() if not running else None)
    Supervisor([run, other], PretendingRunner(capacity=1), watcher, VERSION).work()
    thread.join()
    assert watcher.events == ["start two", "end two", "start one", "end one"]


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path: Path):
    (run, *_) = planned(tmp_path)
    for state, refused in (("finished", True), ("stopped", True), ("failed", False)):
        other = replace(run.record, arguments=("--x=1",), state=state, attempts=1)
        write_record(run.folder, other)
        if refused:
            with pytest.raises(UserError, match=r"with --seed_everything=0, without --x=1"):
                planned(tmp_path)
        else:
            assert planned(tmp_path, retry="failed")[0].record.arguments == run.record.arguments


def test_a_damaged_record_is_refused_by_its_file(tmp_path: Path):
    (run, *_) = planned(tmp_path)
    write_record(run.folder, run.record)
    file = run.folder / "run.json"
    content = json.loads(file.read_text())
    for damaged in ("{", json.dumps({**content, "state": "odd"}), json.dumps({**content, "x": 1})):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"run\.json .*Remove it"):
            planned(tmp_path)
    file.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(UserError, match="has the format 99, expected 1"):
        planned(tmp_path)
