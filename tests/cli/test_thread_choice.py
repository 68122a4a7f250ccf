"""The number of threads and how they wait: the choice by rates, and when nothing is measured."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pex_lightning.cli import thread_choice
from pex_lightning.cli.thread_choice import (
    ThreadStart,
    as_record,
    choose,
    earlier_number,
    start_threads,
    told,
)
from pex_lightning.cli.thread_measurement import MeasurementError, numbers_to_try

VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
    *("LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS"),
)


@pytest.mark.parametrize(
    ("rates", "choice"),
    [
        ({("brief", 1): 260, ("brief", 2): 412, ("active", 2): 405}, ("brief", 2)),
        # What is usual stays where the other is not clearly better.
        ({("brief", 1): 100, ("brief", 2): 96, ("active", 2): 114}, ("brief", 2)),
        ({("brief", 1): 100, ("brief", 2): 100, ("active", 2): 115}, ("active", 2)),
        # A busy neighbour: one thread, which waits for nobody.
        ({("brief", 1): 100, ("brief", 2): 95, ("active", 2): 30}, ("brief", 1)),
        ({("brief", 1): 100, ("brief", 2): 60, ("active", 2): 0}, ("brief", 1)),
        # Many cores: the largest number that none is clearly better than.
        ({("brief", n): r for n, r in ((1, 90), (2, 160), (4, 200), (8, 195), (16, 150))}, (8,)),
        # The user has said one of the two.
        ({("OMP_WAIT_POLICY", 1): 100, ("OMP_WAIT_POLICY", 2): 150}, ("OMP_WAIT_POLICY", 2)),
        ({("brief", 4): 100, ("active", 4): 200}, ("active", 4)),
    ],
)
def test_the_choice_by_rates(rates: dict[tuple[str, int], float], choice: tuple[Any, ...]) -> None:
    assert tuple(choose(rates))[-len(choice) :] == choice


def test_the_numbers_that_are_tried() -> None:
    assert numbers_to_try(2, 2) == [1, 2]
    assert numbers_to_try(6, 3) == [1, 2, 3, 4, 6]
    assert numbers_to_try(16, 8) == [1, 2, 4, 8, 16]


class Measured:
    """Stands in for the measurement, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: tuple[list[str], list[int] | None] | None = None
        self.error: Exception | None = None

    def __call__(self, ways: dict[str, Any], numbers: list[int] | None) -> Any:
        self.asked = (list(ways), numbers)
        if self.error is not None:
            raise self.error
        tried = [1, 2, 4] if numbers is None else numbers or [3]
        return {(way, n): 100.0 * n + (way == "active") for way in ways for n in tried}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """A process of four cores without a GPU that has not loaded torch, and nothing set."""
    for name in VARIABLES:
        # Set first, so that what is set here is taken back afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    found = Measured()
    monkeypatch.setattr(thread_choice, "measure", found)
    monkeypatch.setattr(thread_choice, "usable_cores", lambda: 4)
    monkeypatch.setattr(thread_choice, "_torch_is_loaded", lambda: False)
    monkeypatch.setattr(thread_choice, "_GPUS", ())
    return found


def test_both_are_measured_and_set_for_torch(measured: Measured) -> None:
    start = start_threads([])
    assert measured.asked == (["brief", "active"], None)
    assert (start.chosen_by, start.waiting, start.not_measured) == ("measurement", "brief", None)
    assert [os.environ.get(name) for name in VARIABLES[:4]] == ["4", None, "PASSIVE", "1000"]


@pytest.mark.parametrize(
    ("given", "asked", "chosen_by"),
    [
        ({"OMP_NUM_THREADS": "3"}, (["brief", "active"], []), "OMP_NUM_THREADS"),
        # Torch takes it, if both are set.
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "3"}, (["brief", "active"], []), None),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (["OMP_WAIT_POLICY"], None), "measurement"),
        ({"GOMP_SPINCOUNT": "7"}, (["GOMP_SPINCOUNT"], None), "measurement"),
    ],
)
def test_what_the_user_has_set_is_not_measured(
    given: dict[str, str],
    asked: Any,
    chosen_by: str | None,
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    start = start_threads([])
    assert measured.asked == asked
    assert start.chosen_by == (chosen_by or "MKL_NUM_THREADS")
    assert {name: os.environ[name] for name in given} == given
    if "GOMP_SPINCOUNT" in given:
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    ("given", "argv", "why"),
    [
        ({"OMP_NUM_THREADS": "1"}, [], "one thread"),
        ({"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}, [], "OMP_WAIT_POLICY is set"),
        ({"LOCAL_RANK": "1"}, [], "several processes"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, [], "several processes"),
        ({"SLURM_NTASKS": "8"}, [], "several processes"),
        ({}, ["--print_config"], "nothing is trained"),
        ({}, ["--model.help=PEX"], "nothing is trained"),
        ({}, ["--run.threads=1"], "one thread"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["--run.threads", "2"], "OMP_WAIT_POLICY is set"),
    ],
)
def test_nothing_is_measured_and_the_reason_is_kept(
    given: dict[str, str],
    argv: list[str],
    why: str,
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    start = start_threads(argv)
    assert measured.asked is None
    assert why in (start.not_measured or "")
    assert why in as_record(start)["threads_not_measured"]
    assert told(start, 1) is None
    assert {k: os.environ[k] for k in VARIABLES if k in os.environ} == given


def test_machines_and_processes_where_nothing_is_measured(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(thread_choice, "usable_cores", lambda: 1)
        assert start_threads([]).not_measured == "there is one core"
    with monkeypatch.context() as patch:
        patch.setattr(thread_choice, "_GPUS", (str(tmp_path),))
        assert "GPU" in (start_threads([]).not_measured or "")
    with monkeypatch.context() as patch:
        patch.setattr(thread_choice, "_torch_is_loaded", lambda: True)
        assert "torch" in (start_threads([]).not_measured or "")
    assert measured.asked is None


def test_a_failed_measurement_is_told_and_changes_nothing(measured: Measured) -> None:
    measured.error = MeasurementError("it took longer than 20 s")
    start = start_threads([])
    assert (start.chosen_by, start.waiting) == ("torch", "brief")
    assert told(start, 2) == "2 threads, not measured: it took longer than 20 s."
    assert not {*VARIABLES} & {*os.environ}


@pytest.mark.parametrize(
    ("argv", "numbers"),
    [
        (["--run.threads=2"], [2]),
        (["--run.threads", "2", "--run.threads=null"], None),
        (["--config", "a.yaml"], [3]),
        (["--config=a.yaml", "--run.threads=2"], [2]),
        # The order counts, as it does where they are parsed.
        (["--run.threads=2", "--config=a.yaml"], [3]),
        (["--config=on-a.yaml"], [3]),
        (["--ckpt_path=last"], None),
        (["--run.name=x", "--ckpt_path=last"], [2]),
        (["--config=b.yaml", "--ckpt_path", "last"], [2]),
        (["--ckpt_path", "last", "--config=b.yaml"], None),
        (["--ckpt_path=runs/x/online/checkpoints/last.ckpt"], [2]),
        (["--ckpt_path=runs/x"], [2]),
        # More than this machine has cores.
        (["--run.name=y", "--ckpt_path=last"], None),
    ],
)
def test_a_number_that_is_given_or_was_taken_before_leaves_the_waiting_to_measure(
    argv: list[str],
    numbers: list[int] | None,
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("run: {threads: 3}")
    Path("on-a.yaml").write_text("base: [a.yaml]")
    Path("b.yaml").write_text("run: {name: x}\nckpt_path: null")
    for name, threads in (("x", 2), ("y", 64)):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"attempts": [{"threads": threads}]}))
    start = start_threads(argv)
    assert measured.asked == (["brief", "active"], numbers)
    assert ("OMP_NUM_THREADS" in os.environ) == (numbers is None)
    assert start.chosen_by == ("measurement" if numbers is None else "torch")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"attempts": []}', '{"attempts": [{"threads": "2"}]}', "[" * 9_000]
    + [f'{{"attempts": [{{"threads": {n}}}]}}' for n in ("0", "true", "2.5", "null")],
)
def test_a_damaged_record_says_no_number(content: str, tmp_path: Path) -> None:
    assert earlier_number("last", tmp_path) is None
    (tmp_path / "provenance.json").write_text(content)
    assert earlier_number("last", tmp_path) is None


def test_the_line_for_the_user() -> None:
    rates = {("brief", 1): 260.4, ("brief", 2): 412.0, ("active", 2): 405.0}
    start = ThreadStart("measurement", "brief", rates)
    line = "2 threads, waiting briefly: measured 412 trial updates a second"
    assert told(start, 2) == f"{line} (1 thread 260, active 405)"
    assert (told(start, 1) or "").startswith("1 thread: measured 260 trial updates a second")
    assert told(start, 3) is None
    assert as_record(start)["threads_measured"] == {
        "1 brief": 260.4,
        "2 brief": 412.0,
        "2 active": 405.0,
    }
    start = ThreadStart("measurement", "active", rates | {("active", 2): 500.0, ("brief", 4): 9.0})
    line = "2 threads, spinning while they wait: measured 500 trial updates a second"
    assert told(start, 2) == f"{line} (1 thread 260, brief 412)"
