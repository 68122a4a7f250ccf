"""A run's configuration runs it again, and a run's folder stands for its last checkpoint."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from pex_lightning.cli.config_files import expand_bases
from pex_lightning.cli.repeat import under_a_new_name
from pex_lightning.cli.run_folder import last_of
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint


@pytest.mark.long
@pytest.mark.slow
def test_the_config_of_a_run_repeats_both_stages_bit_for_bit(command, tiny, tmp_path: Path):
    first = tmp_path / "tiny"
    assert command(*tiny(tmp_path, "--seed_everything=3", "--trainer.accelerator=cpu")).code == 0
    outcome = command("fit", f"--config={first / 'config.yaml'}", "--offline.reuse=false")
    assert outcome.code == 0, outcome.err
    assert f"it is repeated in {first}-2" in outcome.err
    for stage in ("offline", "online"):
        ours, theirs = (
            read_checkpoint(tmp_path / name / stage / "checkpoints" / "last.ckpt").state_dict
            for name in ("tiny", "tiny-2")
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        metrics = [_metrics(tmp_path / name / stage / "metrics.csv") for name in ("tiny", "tiny-2")]
        assert metrics[0] == metrics[1]
    config = yaml.safe_load((tmp_path / "tiny-2" / "online" / "config.yaml").read_text())
    assert config["run"]["name"] == "tiny-2"


def _metrics(path: Path) -> list[list[str]]:
    """Its rows, without the speed and the time."""
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    measured = {header.index("train/updates_per_second"), header.index("seconds")}
    return [
        [cell for column, cell in enumerate(row) if column not in measured]
        for row in (header, *rows)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """What a run left in its folder."""
    path = tmp_path / "runs" / "x" / "online" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"run": {"root": str(tmp_path / "runs"), "name": "x"}}))
    return path


def test_a_name_that_is_free_is_taken(config: Path):
    args = ["--config", str(config)]
    assert under_a_new_name(args) == [*args, "--run.name=x-2"]
    of_the_run = config.parents[1] / "config.yaml"
    of_the_run.write_text(config.read_text())
    args = ["--config", str(of_the_run)]
    assert under_a_new_name(args) == [*args, "--run.name=x-2"]
    config.parents[2].joinpath("x-2").mkdir()
    assert under_a_new_name(args) == [*args, "--run.name=x-3"]


@pytest.mark.parametrize(
    "flag", ["--run.name=y", "--run.overwrite=true", "--ckpt_path=last", "--run.root=elsewhere"]
)
def test_who_says_which_run_is_heard(config: Path, flag: str):
    args = ["--config", str(config), flag]
    assert under_a_new_name(args) == args


def test_a_later_file_says_it_too(config: Path, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("run: {name: mine}")
    args = ["--config", str(config), "--config", str(tmp_path / "mine.yaml")]
    assert under_a_new_name(args) == args
    (tmp_path / "mine.yaml").write_text("trainer: {max_steps: 3}")
    assert under_a_new_name(args) == [*args, "--run.name=x-2"]


def test_a_copy_elsewhere_is_a_run_of_its_own(config: Path, tmp_path: Path):
    copy = tmp_path / "copied" / "online" / "config.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text(config.read_text())
    assert under_a_new_name(["--config", str(copy)]) == ["--config", str(copy)]


def test_the_folder_of_a_run_is_its_configuration(config: Path):
    run = config.parents[1]
    for given in (run, run / "config.yaml"):
        assert expand_bases(["--config", str(given)]) == ["--config", str(config)]


@pytest.mark.slow
def test_the_folder_of_a_run_is_its_last_checkpoint(command, finished: Path, tmp_path: Path):
    tested = command("test", f"--ckpt_path={finished}", "--evaluation.episodes=1")
    assert tested.code == 0, tested.err
    assert json.loads(tested.out)["checkpoint"] == str(finished / "online/checkpoints/last.ckpt")
    exported = command("data", "export", f"--ckpt_path={finished}", f"--out={tmp_path / 'x.hdf5'}")
    assert exported.code == 0, exported.err


@pytest.mark.long
@pytest.mark.slow
def test_a_run_starts_from_a_folder_and_goes_on_from_one(command, tiny, finished, tmp_path: Path):
    args = (
        f"--offline.ckpt_path={finished}",
        "--trainer.max_steps=10",
        "--trainer.accelerator=cpu",
    )
    outcome = command(*tiny(tmp_path, *args))
    assert outcome.code == 0, outcome.err
    assert f"Hand-over from {finished}/offline/checkpoints/last.ckpt" in outcome.err
    more = command(
        *tiny(tmp_path, f"--ckpt_path={tmp_path / 'tiny'}", *args, "--trainer.max_steps=20")
    )
    assert more.code == 0, more.err
    assert read_checkpoint(last_of(str(tmp_path / "tiny"))).header.gradient_steps == 20


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="without a checkpoint"):
        last_of(str(tmp_path))
    assert last_of("gone.ckpt") == "gone.ckpt"
