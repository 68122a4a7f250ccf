"""The processes that threads are measured in: what they answer, and that they end."""

import time
from pathlib import Path

import pytest

from pex_lightning.cli import thread_measurement
from pex_lightning.cli.console import BRIEF_WAIT
from pex_lightning.cli.thread_measurement import MeasurementError, measure
from pex_lightning.jobs import start_module

WAYS = {"brief": BRIEF_WAIT, "active": {"OMP_WAIT_POLICY": "ACTIVE"}}
PROBE = """
import os, sys, time
active = os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
{start}
print(4, flush=True)
for line in sys.stdin:
    threads, seconds = line.split()
    {block}
    print(10 * int(threads) + active, flush=True)
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts another process in the place of the one that measures; all of them are noted."""
    started = []

    def start(*args, **kwargs):
        started.append(start_module(*args, **kwargs))
        return started[-1]

    def replaced(start: str = "", block: str = "") -> None:
        (tmp_path / "other_probe.py").write_text(PROBE.format(start=start, block=block))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(thread_measurement, "_MODULE", "other_probe")
    monkeypatch.setattr(thread_measurement, "start_module", start)
    monkeypatch.setattr(thread_measurement, "usable_cores", lambda: 2)
    yield replaced
    assert started
    assert all(process.returncode is not None for process in started)


def test_medians_of_every_way_and_number(probe) -> None:
    probe()
    assert measure(WAYS, None) == {
        **{("brief", n): 10.0 * n for n in (1, 2, 4)},
        **{("active", n): 10.0 * n + 1 for n in (2, 4)},
    }
    assert measure(WAYS, [3]) == {("brief", 3): 30.0, ("active", 3): 31.0}
    assert measure(WAYS, []) == {("brief", 4): 40.0, ("active", 4): 41.0}


def test_what_takes_too_long_counts_as_no_update(probe, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(block="active and threads == '2' and time.sleep(60)")
    monkeypatch.setattr(thread_measurement, "_LONGEST_BLOCK_SECONDS", 1.0)
    found = measure(WAYS, [1, 2])
    assert found == {("brief", 1): 10.0, ("brief", 2): 20.0, ("active", 2): 0.0}
    probe(block="time.sleep(60)")
    with pytest.raises(MeasurementError, match=r"no update was done within 1 s"):
        measure(WAYS, [2])


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("raise OSError('no torch')", r"exit code 1 \(OSError: no torch\)"),
        ("sys.exit(3)", "exit code 3"),
        ("time.sleep(60)", "longer than 0.5 s"),
    ],
)
def test_a_process_that_fails_is_told(
    start: str, says: str, probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(start=start)
    monkeypatch.setattr(thread_measurement, "LIMIT_SECONDS", 0.5 if "sleep" in start else 20.0)
    with pytest.raises(MeasurementError, match=says):
        measure(WAYS, None)


def test_a_process_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(thread_measurement, "start_module", start)
    with pytest.raises(MeasurementError, match="Cannot allocate memory"):
        measure(WAYS, None)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells no process's time")
def test_the_process_measures_and_no_thread_of_it_spins_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thread_measurement, "_LONGEST_BLOCK_SECONDS", 120.0)
    with thread_measurement._probes({"active": WAYS["active"]}) as (probe,):
        assert probe.answer(120.0) >= 1
        assert probe.ask(1) > 0
        assert probe.ask(2) > 0
        time.sleep(0.1)
        before = busy_ticks(probe.process.pid)
        time.sleep(0.5)
        assert busy_ticks(probe.process.pid) - before <= 5


def busy_ticks(number: int) -> int:
    """The processor time of all threads of a process, in hundredths of a second."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
