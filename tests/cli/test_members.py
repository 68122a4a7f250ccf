"""Old policies as members, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pex_lightning.handover import read_checkpoint


@pytest.fixture(scope="module")
def script(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file for the environment of `finished`."""
    env = read_checkpoint(finished / "online" / "checkpoints" / "last.ckpt").header.data.env
    path = tmp_path_factory.mktemp("script") / "script.pt"
    torch.jit.save(torch.jit.script(nn.Linear(env.obs_dim, env.action_dim)), str(path))
    return path


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="in this process"),
        pytest.param(["--data.num_collectors=1"], id="in others", marks=pytest.mark.long),
    ],
)
def test_old_policies_act_beside_a_new_one(
    more: list[str], command, tiny, finished: Path, script: Path, tmp_path: Path, refused
) -> None:
    old = finished / "online" / "checkpoints" / "last.ckpt"
    members = json.dumps([{"path": str(old), "name": "old"}, str(script)])
    arguments = [
        argument
        for argument in tiny(tmp_path, "--config", "conf/methods/pex-old-policy.yaml")
        if not argument.startswith("--offline")
    ]
    arguments += [f"--model.members={members}", "--model.grow_at=[15]", *more]
    outcome = command(*arguments)
    assert outcome.code == 0, outcome.err
    last = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last).header.members == ("old", "script", "online-1", "online")
    header = (tmp_path / "tiny" / "online" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/old_policy_share", "train/online-1_policy_share"} <= set(header)
    tested = ["test", "--ckpt_path", str(last), "--evaluation.episodes=1"]
    refused(command(*tested), "the member 'script'", "name it again", "--members")
    outcome = command(*tested, f"--members=['{script}']")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out.splitlines()[-1])["algorithm"] == "PEX"
    outcome = command(*arguments, "--ckpt_path=last", "--trainer.max_steps=50")
    assert outcome.code == 0, outcome.err
    assert read_checkpoint(last).header.gradient_steps == 50


def test_a_missing_member_is_told_before_the_offline_stage(
    command, tiny, tmp_path: Path, refused
) -> None:
    for member, words in (
        ("gone.pt", "there is no file gone.pt"),
        ("gone.ckpt", "checkpoint gone.ckpt does not exist"),
        ("README.md", "is no policy that is known here"),
    ):
        outcome = command(*tiny(tmp_path, f"--model.members=[{member}]"))
        refused(outcome, words)
        assert not list(tmp_path.rglob("*.ckpt"))
