"""Ranks of a distributed run end together, say the first cause in a sentence, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pex_lightning.handover import read_checkpoint

TWO = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")
LONG = ("--offline.max_steps=10", "--trainer.max_steps=100000", "--evaluation.every=100000")


@pytest.fixture
def ranks(command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Start a run of two ranks, of which one fails."""

    def start(fault: str, *more: str) -> subprocess.Popen[str]:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        monkeypatch.setenv("RANK_FAULT", fault)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        probe = "--trainer.callbacks=[{class_path: rank_fault.Fault}]"
        return command.start(*tiny(tmp_path, *TWO, *LONG, probe, *more))

    return start


def ended(process: subprocess.Popen[str], seconds: float = 120.0) -> str:
    """What a run said that had to end by itself, with everything that it had started."""
    _, err = process.communicate(timeout=seconds)
    assert process.returncode not in (0, None), err
    assert "gloo" not in err
    end = time.monotonic() + 20
    while session(process.pid):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.2)
    return err


def session(pid: int) -> list[str]:
    found = subprocess.run(["pgrep", "-s", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def children(pid: int) -> list[int]:
    """Other ranks, in the order of their numbers."""
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "pex_lightning"],
        capture_output=True,
        text=True,
        check=False,
    )
    texts = {
        int(child): Path(f"/proc/{child}/cmdline").read_text() for child in found.stdout.split()
    }
    return sorted(child for child, text in texts.items() if "\0fit\0" in text)


def last(folder: Path) -> Path:
    return folder / "tiny" / "online" / "checkpoints" / "last.ckpt"


def goes_on(ranks, folder: Path) -> None:
    """Resume, with no fault, for a few updates."""
    done = read_checkpoint(last(folder)).header.gradient_steps
    assert done > 0
    process = ranks("-1:none:0", "--ckpt_path=last", f"--trainer.max_steps={done + 20}")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert read_checkpoint(last(folder)).header.gradient_steps == done + 20


def error(err: str) -> str:
    """The one line that the first rank says."""
    assert err.count("error: ") == 1, err
    return err[err.index("error: ") :].splitlines()[0]


@pytest.mark.long
@pytest.mark.slow
def test_an_error_of_one_rank_is_told_by_the_first(ranks, tmp_path: Path):
    process = ranks("1:user:25")
    err = ended(process)
    assert "Traceback" not in err
    assert process.returncode == 2
    assert "process 1: the licence of the simulator has expired." in err
    assert "process 1 of this run failed: the licence of the simulator has expired." in error(err)
    assert "--ckpt_path last" in error(err)
    assert not list(tmp_path.glob("pex-lightning-ranks-*"))
    assert read_checkpoint(last(tmp_path)).resumable


@pytest.mark.long
@pytest.mark.parametrize("what", ["bug", "full"])
@pytest.mark.parametrize("rank", [0, 1])
def test_any_exception_of_a_rank_ends_the_other_in_a_sentence(
    ranks, tmp_path: Path, what: str, rank: int
):
    err = ended(ranks(f"{rank}:{what}:25"))
    cause = {"bug": "ZeroDivisionError: no such luck", "full": "No space left on device"}[what]
    assert cause in err
    if rank == 1:
        assert "process 1 of this run failed: " in error(err)
        assert cause in error(err)
    # The traceback is that of the rank which failed; it belongs to an unexpected error.
    assert err.count("Traceback") <= 1
    goes_on(ranks, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_not_finite_in_one_rank_ends_both(ranks, tmp_path: Path, rank: int):
    process = ranks(f"{rank}:nan:25")
    err = ended(process)
    assert "Traceback" not in err
    assert process.returncode == 2
    assert "training has diverged" in error(err)
    goes_on(ranks, tmp_path)


@pytest.mark.long
def test_a_rank_that_is_killed_ends_the_first_in_a_sentence(ranks, wait_for, tmp_path: Path):
    process = ranks("-1:none:0", "--data.num_collectors=1")
    wait_for(last(tmp_path).exists, process)
    (child,) = children(process.pid)
    os.kill(child, signal.SIGKILL)
    start = time.monotonic()
    err = ended(process)
    assert time.monotonic() - start < 30
    assert "Traceback" not in err
    assert process.returncode == 2
    assert "process 1 of this run was ended by SIGKILL" in error(err)
    assert "--ckpt_path last" in error(err)
    goes_on(ranks, tmp_path)


@pytest.mark.long
def test_the_other_ranks_end_with_the_first(ranks, wait_for, tmp_path: Path):
    process = ranks("-1:none:0", "--data.num_collectors=1")
    wait_for(last(tmp_path).exists, process)
    os.kill(process.pid, signal.SIGKILL)
    err = ended(process)
    assert "Traceback" not in err
    assert "process 1: the first process of this run has ended." in err
    goes_on(ranks, tmp_path)


@pytest.mark.long
def test_a_rank_whose_first_is_killed_while_it_starts_does_not_wait_for_it(ranks, wait_for):
    process = ranks("-1:none:0")
    wait_for(lambda: bool(children(process.pid)), process)
    os.kill(process.pid, signal.SIGKILL)
    assert "process 1: the first process of this run has ended." in ended(process, 60)


@pytest.mark.long
@pytest.mark.parametrize("busy", [0, 1])
def test_a_rank_that_does_not_notice_is_ended_too(ranks, wait_for, tmp_path: Path, busy: int):
    """It is in a call that has nothing to do with the other rank."""
    process = ranks(f"{busy}:stuck:25")
    wait_for(last(tmp_path).exists, process)
    time.sleep(5)
    (child,) = children(process.pid)
    os.kill(process.pid if busy else child, signal.SIGKILL)
    err = ended(process, 40)
    assert "Traceback" not in err
    if busy:
        assert "process 1: the first process of this run has ended." in err
    else:
        assert "process 1 of this run was ended by SIGKILL" in error(err)


@pytest.mark.long
def test_a_rank_that_ends_while_it_starts_is_not_waited_for(ranks):
    """Before it has met the others, who would wait half an hour for it."""
    start = time.monotonic()
    process = ranks("1:starting:0")
    err = ended(process, 90)
    assert time.monotonic() - start < 60
    assert process.returncode == 2
    assert "process 1 of this run ended with exit code 3" in error(err)


@pytest.mark.long
def test_three_ranks_name_the_one_that_was_killed(ranks, wait_for, tmp_path: Path):
    process = ranks("-1:none:0", "--trainer.devices=3")
    wait_for(last(tmp_path).exists, process)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    err = ended(process)
    assert "process 2 of this run was ended by SIGKILL" in error(err)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_ranks_still_saves(ranks, wait_for, tmp_path: Path, number: signal.Signals):
    process = ranks("-1:none:0")
    wait_for(last(tmp_path).exists, process)
    os.killpg(process.pid, number)
    err = ended(process)
    assert process.returncode == 128 + number, err
    assert "error: " not in err
    goes_on(ranks, tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("--offline.trainer.devices=1",), ("1 process(es)", "2 on 1")),
        (("--trainer.devices=1", "--offline.trainer.devices=2"), ("2 process(es)", "1 on 1")),
        (("--offline.trainer.num_nodes=2",), ("4 process(es) on 2 node(s)",)),
    ],
)
def test_stages_with_different_processes_are_refused(
    command, tiny, refused, tmp_path: Path, settings: tuple[str, ...], words: tuple[str, ...]
):
    outcome = command(*tiny(tmp_path, *TWO, *settings))
    refused(outcome, "--offline.trainer", "--trainer", "--offline.ckpt_path", *words)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    "strategy",
    [
        "ddp_spawn",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("ddp_fork", "ddp_notebook")),
    ],
)
@pytest.mark.parametrize("flag", ["--trainer", "--offline.trainer"])
def test_strategies_that_cannot_train_are_refused(
    command, tiny, refused, tmp_path: Path, strategy: str, flag: str
):
    outcome = command(*tiny(tmp_path, *TWO, f"{flag}.strategy={strategy}"))
    refused(outcome, f"{flag}.strategy", strategy, "Use ddp")
    assert not (tmp_path / "tiny").exists()


def test_a_strategy_in_many_words_is_refused_too(command, tiny, refused, tmp_path: Path):
    spawn = json.dumps(
        {
            "class_path": "pytorch_lightning.strategies.DDPStrategy",
            "init_args": {"start_method": "spawn"},
        }
    )
    outcome = command(*tiny(tmp_path, *TWO, f"--trainer.strategy={spawn}"))
    refused(outcome, "--trainer.strategy", "Use ddp")
