from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

STEPS = """
import os, threading, time
from benchmarks.speed.gate import Channel, Gate
channel = Channel.of_process()
print("chatter of a library")
gate = Gate(channel, warm_up=0.0, lead_in=False)
gap, last = 0.0, time.perf_counter()
def spin():
    global gap, last
    while True:
        now = time.perf_counter()
        gap, last = max(gap, now - last), now
        time.sleep(0.002)
threading.Thread(target=spin, daemon=True).start()
"""
COUNTS = (
    STEPS
    + """
count = 0
while gate.passed(count):
    time.sleep(0.01)
    count += 3
"""
)
LONGEST_PAUSE = (
    STEPS
    + """
total = 0
while gate.passed(total):
    time.sleep(0.02)
    total += round(1000 * gap)
    gap = 0.0
"""
)
OWN_ID = (
    STEPS
    + """
total = 0
while gate.passed(total):
    total += os.getpid()
    time.sleep(0.02)
"""
)
FAILS = "import sys; sys.exit('ImportError: broken')"
DIES = (
    STEPS
    + """
while gate.passed(0):
    sys = __import__("sys")
    sys.exit("died at work")
"""
)


def run(bench: Any, scripts: dict[str, str], rounds: int, seconds: float) -> Any:
    stopwatch = bench("speed.stopwatch")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = [
        stopwatch.Command(name, [sys.executable, "-c", script], environment)
        for name, script in scripts.items()
    ]
    return stopwatch.alternate(commands, rounds=rounds, seconds=seconds, tell=lambda line: None)


def test_processes_take_turns(bench: Any) -> None:
    found = run(bench, {"one": COUNTS, "two": COUNTS}, rounds=3, seconds=0.05)
    turns = [(block.round, block.name) for block in found.blocks]
    assert turns == [(0, "one"), (0, "two"), (1, "two"), (1, "one"), (2, "one"), (2, "two")]
    for block in found.blocks:
        assert block.seconds >= 0.05
        # 3 units in a hundredth of a second, or more where the machine is busy.
        assert 0 < block.rate <= 300
    assert found.skipped == {}


def test_who_is_not_at_turn_is_stopped(bench: Any) -> None:
    if not bench("speed.stopwatch").CAN_STOP:
        pytest.skip("this system cannot stop a process")
    found = run(bench, {"waits": LONGEST_PAUSE, "works": COUNTS}, rounds=3, seconds=0.2)
    pauses = [block.units for block in found.blocks if block.name == "waits"]
    # In milliseconds: its own thread stood still while the other one worked.
    assert max(pauses) >= 200


def test_those_that_fail_are_named_and_the_others_go_on(bench: Any) -> None:
    scripts = {"broken": FAILS, "sound": COUNTS, "mortal": DIES}
    found = run(bench, scripts, rounds=2, seconds=0.02)
    assert found.skipped == {"broken": "ImportError: broken", "mortal": "died at work"}
    assert [block.name for block in found.blocks] == ["sound", "sound"]


def test_nothing_is_left_behind(bench: Any) -> None:
    found = run(bench, {"mine": OWN_ID}, rounds=1, seconds=0.0)
    (block,) = found.blocks
    with pytest.raises(ProcessLookupError):
        os.kill(block.units, 0)
