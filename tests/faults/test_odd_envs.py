"""An environment that breaks its word late ends a run in one line, here and in collectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import write_random_log
from pex_lightning.handover import read_checkpoint

MODULE = """
import gymnasium as gym, numpy as np

class Late(gym.Env):
    def __init__(self, raises=False):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.raises, self.steps, self.late = raises, 0, False
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.late = seed is None
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.steps += 1
        odd = self.late and self.steps >= 90
        if odd and self.raises:
            raise RuntimeError("simulator lost its connection")
        return np.zeros(3, np.float32), float("nan") if odd else 1.0, False, False, {}

gym.register("late/Odd-v0", entry_point=Late, max_episode_steps=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("collectors", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("raises", "says"),
    [("false", "found the reward nan at step"), ("true", "simulator lost its connection")],
)
def test_a_run_ends_in_one_line_and_can_go_on(
    command,
    tiny,
    refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    collectors: int,
    raises: str,
    says: str,
) -> None:
    (tmp_path / "late_env.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    write_random_log(tmp_path / "data.hdf5")
    args = tiny(
        tmp_path,
        "--data.env=late_env:late/Odd-v0",
        f"--data.env_kwargs={{raises: {raises}}}",
        f"--data.path={tmp_path / 'data.hdf5'}",
        f"--data.num_collectors={collectors}",
        "--trainer.max_steps=100",
        "--evaluation.every=1000",
        "--run.save_every=5",
    )
    outcome = command(*args)
    refused(outcome, "late/Odd-v0", says)
    assert len(outcome.err[outcome.err.index("error: ") :].strip().splitlines()) == 1
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    assert checkpoint.header.gradient_steps > 0
    assert checkpoint.resumable
