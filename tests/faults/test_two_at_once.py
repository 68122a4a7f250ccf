"""Two runs in one folder: the second is refused with who holds it, and nothing is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pex_lightning.handover import read_checkpoint


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(
    command, tiny, refused, wait_for, tmp_path: Path
) -> None:
    live = command.start(*tiny(tmp_path, "--trainer.max_steps=100000"))
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    try:
        wait_for(last.exists, live)
        for more in (["--ckpt_path=last"], ["--run.overwrite=true"]):
            outcome = command(*tiny(tmp_path, "--trainer.max_steps=100000", *more))
            refused(outcome, str(tmp_path / "tiny"), f"process {live.pid} on ", "--run.name")
        assert live.poll() is None
        live.send_signal(signal.SIGINT)
        _, err = live.communicate(timeout=120)
        assert live.returncode == 130, err
    finally:
        live.kill()
    done = read_checkpoint(last).header.gradient_steps
    assert not (tmp_path / "tiny" / ".owner").exists()
    outcome = command(*tiny(tmp_path, f"--trainer.max_steps={done + 20}", "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_run_holds_its_folder_no_longer(command, tiny, wait_for, tmp_path: Path) -> None:
    live = command.start(*tiny(tmp_path, "--trainer.max_steps=100000"))
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    wait_for(last.exists, live)
    live.kill()
    live.communicate(timeout=60)
    done = read_checkpoint(last).header.gradient_steps
    outcome = command(*tiny(tmp_path, f"--trainer.max_steps={done + 20}", "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
