"""Signals while `fit` measures threads: it ends at once, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import signal, sys
# Where tests run in the background, it would be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pex_lightning.cli import main, thread_choice, thread_measurement
assert "torch" not in sys.modules
thread_choice._GPUS = ()
thread_choice.usable_cores = lambda: 2
thread_measurement._MODULE = "hanging_probe"
sys.exit(main(["fit", "--config", "conf/pointmaze.yaml"]))
"""
PROBE = """
import os, pathlib, sys, time
note = pathlib.Path(str(os.getpid()))
note.with_suffix(".started").touch()
"""
HANGS = "time.sleep(60)"
READS = "sys.stdin.read(); note.with_suffix('.ended').touch()"


def start(folder: Path, then: str, **options) -> subprocess.Popen:
    (folder / "hanging_probe.py").write_text(PROBE + then)
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "GOMP_"))}
    paths = [str(folder), *filter(None, sys.path)]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={**settings, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def probes(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.started")]


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_measurement(
    number: signal.Signals, code: int, tmp_path: Path, wait_for
) -> None:
    process = start(tmp_path, HANGS, stdin=subprocess.DEVNULL)
    wait_for(lambda: len(probes(tmp_path)) == 2, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors == ""
    assert not any(map(is_alive, probes(tmp_path)))


def test_processes_end_with_a_killed_run(tmp_path: Path, wait_for) -> None:
    process = start(tmp_path, READS)
    wait_for(lambda: len(probes(tmp_path)) == 2, process)
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("*.ended"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
