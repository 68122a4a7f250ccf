"""Workers answer and end; jobs say why they did not do their work."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pex_lightning.errors import UserError
from pex_lightning.jobs import JobProcess
from pex_lightning.processes import Workers, WorkerTraceback, that_answered


class Doubles:
    """Answers a number with twice that number, a word with what it says."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def __call__(self, message: object) -> object:
        if message == "raise":
            raise KeyError("no such thing")
        if message == "lambda":
            raise Unpicklable
        if message == "pipe":
            raise BrokenPipeError("the simulator's pipe")
        if message == "exit":
            os._exit(3)
        if message == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(message, float):
            time.sleep(message)
        return message * 2  # type: ignore[operator]

    def close(self) -> None:
        if self.folder:
            (Path(self.folder) / "closed").write_text("")


class Unpicklable(Exception):  # noqa: N818
    def __init__(self) -> None:
        super().__init__("cannot be sent")
        self.function = lambda: None


@pytest.fixture
def workers() -> Workers:
    return Workers()


def start(workers: Workers, folder: Path | None = None) -> object:
    return workers.start(Doubles, str(folder or ""), name="--x: the process", fewer="things")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_messages_are_answered_in_order_and_the_handler_is_closed(
    workers: Workers, tmp_path: Path
) -> None:
    worker = start(workers, tmp_path)
    for number in range(5):
        worker.send(number)
    assert [worker.receive() for _ in range(5)] == [0, 2, 4, 6, 8]
    workers.stop()
    assert (tmp_path / "closed").exists()
    assert len(workers) == 0
    workers.stop()


def test_whoever_answers_first_is_found(workers: Workers) -> None:
    slow, fast = start(workers), start(workers)
    fast.send(1)
    assert fast.receive() == 2
    slow.send(1.5)
    fast.send(4)
    assert that_answered([slow, fast]) == [fast]
    assert fast.receive() == 8
    assert that_answered([slow]) == [slow]
    assert slow.receive() == 3.0
    workers.stop()


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ("raise", KeyError, "no such thing"),
        ("lambda", RuntimeError, "Unpicklable: cannot be sent"),
        ("pipe", BrokenPipeError, "the simulator's pipe"),
        ("exit", UserError, "--x: the process ended with exit code 3; what it said is above"),
        ("die", UserError, "exit code -9; it was killed, perhaps for memory: take fewer things"),
    ],
)
def test_a_failure_says_what_it_was(
    workers: Workers, message: str, error: type[Exception], says: str
) -> None:
    worker = start(workers)
    worker.send(message)
    with pytest.raises(error, match=says) as raised:
        worker.receive()
    if error is not UserError:
        assert isinstance(raised.value.__cause__, WorkerTraceback)
        assert "in __call__" in str(raised.value.__cause__)
    workers.abort()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_they_end_when_nobody_holds_them() -> None:
    workers = Workers()
    pid = start(workers).process.pid
    del workers
    gc.collect()
    assert not alive(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.slow
def test_they_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys, time; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from pex_lightning.processes import Workers\n"
        "from test_processes import Doubles\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers()\n"
        "    worker = workers.start(Doubles, name='x', fewer='y')\n"
        "    worker.send(1); worker.receive()\n"
        "    print(worker.process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", None),
        ("import sys; print('warning', file=sys.stderr); sys.exit('no room')", "no room"),
        ("import sys; sys.exit(1)", "its process ended with exit code 1"),
        ("import sys; sys.exit(4)", "its process ended with exit code 4"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "its process ended with exit code -9, perhaps for memory",
        ),
    ],
)
def test_a_job_says_why_it_is_not_done(
    code: str, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_job.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert JobProcess("some_job", None).wait() == reason


def test_a_job_is_given_what_it_is_to_do_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_job.py").write_text(
        "import pickle, sys, time\n"
        "path, seconds = pickle.load(sys.stdin.buffer)\n"
        "open(path, 'w').close()\n"
        "time.sleep(seconds)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    JobProcess("some_job", (str(tmp_path / "one"), 0)).wait()
    assert (tmp_path / "one").exists()
    job = JobProcess("some_job", (str(tmp_path / "two"), 60))
    while not (tmp_path / "two").exists():
        time.sleep(0.01)
    begin = time.monotonic()
    job.end()
    assert job.wait() == "its process ended with exit code -15"
    assert time.monotonic() - begin < 5
