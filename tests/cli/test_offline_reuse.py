"""An offline stage is trained once under a folder of runs, and never taken for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pex_lightning.cli.fit import Run
from pex_lightning.cli.offline_reuse import depends_on
from pex_lightning.cli.parser import parse_fit
from pex_lightning.cli.ranks import Ranks
from pex_lightning.cli.thread_choice import ThreadStart
from pex_lightning.handover import read_checkpoint
from pex_lightning.handover.kept_stages import KeptStage

TAKEN = "The offline stage is taken from"


def _checkpoint(root: Path, run: str, stage: str = "online"):
    return read_checkpoint(root / run / stage / "checkpoints" / "last.ckpt")


def _equal(one, other) -> bool:
    pairs = ((one.state_dict[key], other.state_dict[key]) for key in one.state_dict)
    return one.state_dict.keys() == other.state_dict.keys() and all(
        torch.equal(a, b) for a, b in pairs
    )


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A folder of runs with a finished one."""
    shutil.copytree(finished.parent, tmp_path / "runs")
    return tmp_path / "runs"


def _kept(root: Path) -> list[Path]:
    return sorted(path for path in (root / "offline-stages").iterdir() if path.is_dir())


def test_a_run_with_a_taken_stage_ends_as_if_it_had_trained_it(
    command, tiny, finished: Path, root: Path
):
    # The run that trained it may be gone.
    shutil.rmtree(root / "tiny")
    outcome = command(*tiny(root, "--run.name=second", "--trainer.log_every_n_steps=20"))
    assert outcome.code == 0, outcome.err
    (kept,) = _kept(root)
    assert f"{TAKEN} {finished / 'offline'}" in outcome.err
    assert f"fingerprint {kept.name}" in outcome.err
    assert _equal(_checkpoint(root, "second"), _checkpoint(finished.parent, "tiny"))
    for file in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "stage.json"):
        first = (finished / "offline" / file).read_bytes()
        assert (root / "second" / "offline" / file).read_bytes() == first
    assert (root / "second" / "offline" / "config.yaml").exists()


def test_the_note_says_what_the_stage_depends_on(finished: Path):
    note = json.loads((finished / "offline" / "stage.json").read_text())
    known = note["depends_on"]
    assert known["hyper_parameters"]["hidden_dims"] == [16, 16]
    assert (known["trainer"]["max_steps"], known["seed"], known["batch_size"]) == (40, 0, 8)
    assert known["data"]["dataset"] == "made:pointmaze-medium"
    evaluation = {"episodes": 1, "every": 20, "seed": None, "num_envs": None, "members": "ends"}
    assert known["evaluation"] == evaluation


def _fingerprint(args: list[str], root: Path) -> str:
    run = Run(parse_fit(args[1:]), Ranks(), ThreadStart())
    run._main.data.setup()
    stage = run._offline
    assert stage is not None
    stage.data.setup()
    return KeptStage(root, depends_on(stage, stage.check_trainer())).fingerprint


def test_what_changes_the_result_changes_the_fingerprint(
    tiny, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes = [
        "--seed_everything=1",
        "--offline.max_steps=20",
        "--model.expectile=0.5",
        "--data.batch_size=4",
        "--data.reward_transform=identity",
        "--offline.evaluate_every=10",
        "--offline.trainer.precision=bf16-mixed",
        "--offline.model.gradient_clip_val=1",
    ]
    without_effect = ["--trainer.log_every_n_steps=7", "--run.save_every=7", "--model.beta=10.0"]
    known = json.loads((finished / "offline" / "stage.json").read_text())["fingerprint"]
    assert _fingerprint(tiny(tmp_path, *without_effect), tmp_path) == known
    online_alone = ("--evaluation.every_env_steps=10", "--data.max_env_steps=60")
    assert _fingerprint(tiny(tmp_path, *online_alone), tmp_path) == known
    others = [_fingerprint(tiny(tmp_path, change), tmp_path) for change in changes]
    # A measurement chooses it, which need not choose the same again.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert _fingerprint(tiny(tmp_path), tmp_path) == known
    assert len({known, *others}) == 1 + len(changes)


def test_on_request_the_stage_is_trained_anew(command, tiny, root: Path):
    more = ["--run.name=second", "--trainer.max_steps=1", "--offline.reuse=false"]
    outcome = command(*tiny(root, *more))
    assert outcome.code == 0, outcome.err
    assert TAKEN not in outcome.err


@pytest.mark.long
def test_a_run_is_replaced_and_goes_on_with_a_taken_stage(command, tiny, finished, root: Path):
    args = tiny(root, "--run.overwrite=true")
    outcome = command(*args)
    assert outcome.code == 0, outcome.err
    assert TAKEN in outcome.err
    shutil.rmtree(root / "tiny" / "online")
    # As if it had been stopped before its online stage had a checkpoint.
    outcome = command(*tiny(root, "--ckpt_path=last"))
    assert outcome.code == 0, outcome.err
    assert _equal(_checkpoint(root, "tiny"), _checkpoint(finished.parent, "tiny"))


def test_the_offline_stage_alone_is_the_one_that_methods_begin_with(
    command, tiny, finished, root: Path
):
    alone = ["--config=conf/methods/offline.yaml", "--run.name=alone"]
    steps = [arg for arg in tiny(root, *alone) if "trainer.max_steps" not in arg]
    outcome = command(*[arg for arg in steps if "start_steps" not in arg and "chunk" not in arg])
    assert outcome.code == 0, outcome.err
    assert TAKEN in outcome.err
    assert _equal(_checkpoint(root, "alone", "offline"), _checkpoint(root, "tiny", "offline"))
    first = (finished / "offline" / "metrics.csv").read_bytes()
    assert (root / "alone" / "offline" / "metrics.csv").read_bytes() == first


@pytest.mark.long
def test_code_of_the_user_may_have_changed(command, tiny, root: Path):
    own = ["--data=own_methods.OwnData", "--run.name=own", "--trainer.max_steps=1"]
    args = tiny(root, *own[1:])
    outcome = command(*args[:3], own[0], *args[3:])
    assert outcome.code == 0, outcome.err
    assert TAKEN not in outcome.err
    assert len(_kept(root)) == 1


@pytest.mark.long
def test_processes_of_one_run_take_the_stage_together(command, tiny, tmp_path: Path):
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")
    ended = []
    for name in ("first", "second"):
        started = command.start(*tiny(tmp_path, f"--run.name={name}", *two))
        _, err = started.communicate(timeout=240)
        assert started.returncode == 0, err
        assert (TAKEN in err) == (name == "second")
        ended.append(_checkpoint(tmp_path, name))
    assert _equal(*ended)
