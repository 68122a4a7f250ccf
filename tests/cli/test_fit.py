"""What `pex-lightning fit` does and leaves behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from pex_lightning.handover import read_checkpoint


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("stage", ["offline", "online"])
def test_a_run_leaves_configuration_metrics_events_and_checkpoints(finished: Path, stage: str):
    folder = finished / stage
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_steps"] == 40
    assert list(folder.glob("events.out.tfevents.*"))
    header = read_checkpoint(folder / "checkpoints" / "last.ckpt").header
    assert header.gradient_steps == 40
    assert header.env_steps == (90 if stage == "online" else 0)
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt").header.gradient_steps in (
        0,
        20,
        40,
    )
    assert not list(folder.rglob("*.part"))


def test_metrics_have_the_documented_columns(finished: Path):
    rows = _rows(finished / "online" / "metrics.csv")
    columns = ["step", "env_steps", "eval/return", "eval/success", "eval/score"]
    assert set(columns) <= set(rows[0])
    assert any(column.startswith("train/") for column in rows[0])
    assert [int(row["step"]) for row in rows] == [0, 10, 20, 30, 40]
    evaluated = [int(row["step"]) for row in rows if row["eval/score"]]
    assert evaluated == [0, 20, 40]
    assert [int(row["env_steps"]) for row in rows][-1] == 90
    assert all(0.0 <= float(row["train/offline_policy_share"]) <= 1.0 for row in rows[1:])
    diagnostics = {"q_disagreement", "q_size", "weight_at_cap", "weight_near_zero", "q/offline"}
    assert {f"train/{name}" for name in diagnostics} <= set(rows[0])
    alone = [int(row["step"]) for row in rows if row["eval/offline/score"]]
    assert alone == [0, 40]
    assert [int(row["step"]) for row in rows if row["eval/online/score"]] == [40]
    assert [bool(row["eval/starts_lost"]) for row in rows] == [True, False, True, False, True]


def test_an_online_stage_is_summed_up(finished: Path):
    found = json.loads((finished / "online" / "diagnostics.json").read_text())
    assert (found["gradient_steps"], found["env_steps"], found["finished"]) == (40, 90, True)
    assert set(found["members"]) == {"offline", "online"}
    assert not (finished / "offline" / "diagnostics.json").exists()


def test_a_run_that_ends_before_the_new_policy_acts_says_so(command, tiny, tmp_path: Path):
    short = ("--offline.max_steps=5", "--trainer.max_steps=5", "--evaluation.episodes=1")
    outcome = command(*tiny(tmp_path, *short, "--data.initial_updates=5"))
    assert outcome.code == 0, outcome.err
    told = "--trainer.max_steps 5 ends within --data.initial_updates 5"
    assert told in outcome.out + outcome.err
    outcome = command(*tiny(tmp_path, *short, "--data.initial_updates=4", "--run.name=other"))
    assert "initial_updates" not in outcome.out + outcome.err


def test_environment_steps_say_how_long_and_when(command, tiny, finished: Path, tmp_path: Path):
    # 50 steps before the first update, then 4 updates alone, then two for each step.
    lengths = ("--trainer.max_steps=-1", "--data.max_env_steps=75", "--data.initial_updates=4")
    ratio = ("--data.updates_per_step=2", "--evaluation.every_env_steps=10")
    outcome = command(*tiny(tmp_path, *lengths, *ratio))
    assert outcome.code == 0, outcome.err
    rows = _rows(tmp_path / "tiny" / "online" / "metrics.csv")
    evaluated = [(int(row["step"]), int(row["env_steps"])) for row in rows if row["eval/score"]]
    assert evaluated == [(0, 0), (24, 60), (44, 70), (54, 75)]
    offline = _rows(tmp_path / "tiny" / "offline" / "metrics.csv")
    assert [int(row["step"]) for row in offline if row["eval/score"]] == [0, 20, 40]

    again = command(*tiny(tmp_path, *lengths, *ratio, "--ckpt_path=last"))
    assert "A larger --data.max_env_steps goes on" in again.out + again.err
    sooner = (*lengths, *ratio, "--trainer.max_steps=30", "--run.name=sooner")
    outcome = command(*tiny(tmp_path, *sooner))
    last = read_checkpoint(tmp_path / "sooner" / "online" / "checkpoints" / "last.ckpt")
    assert (last.header.gradient_steps, last.header.env_steps) == (30, 63)


def test_environment_steps_that_are_not_reached_are_told(command, tiny, tmp_path: Path):
    short = ("--offline.max_steps=5", "--trainer.max_steps=10", "--evaluation.episodes=1")
    outcome = command(*tiny(tmp_path, *short, "--data.max_env_steps=61"))
    told = "--trainer.max_steps 10 ends the online stage before the 61 environment steps"
    assert told in outcome.out + outcome.err
    outcome = command(*tiny(tmp_path, *short, "--data.max_env_steps=60", "--run.name=other"))
    assert "ends the online stage before" not in outcome.out + outcome.err


def test_a_short_trial_does_not_mind_environment_steps(command, tiny, tmp_path: Path):
    outcome = command(*tiny(tmp_path, "--trainer.fast_dev_run=15", "--data.max_env_steps=60"))
    assert outcome.code == 0, outcome.err


def test_evaluations_between_two_updates_are_refused(command, tiny, refused, tmp_path: Path):
    given = ("--data.updates_per_step=0.5", "--evaluation.every_env_steps=25")
    refused(command(*tiny(tmp_path, *given)), "--evaluation.every_env_steps is 25", "0.5")
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("flag", ["--trainer.max_steps=-1", "--data.max_env_steps=50"])
def test_a_stage_without_an_end_is_refused(command, tiny, refused, tmp_path: Path, flag: str):
    refused(command(*tiny(tmp_path, flag)), flag.split("=", maxsplit=1)[0], "max_env_steps")


def test_members_are_evaluated_at_known_times_alone(command, tiny, refused, tmp_path: Path):
    outcome = command(*tiny(tmp_path, "--evaluation.members=sometimes"))
    refused(outcome, "evaluation.members", "never", "ends", "always")


def test_the_critic_and_the_policy_are_handed_over(finished: Path):
    offline = read_checkpoint(finished / "offline" / "checkpoints" / "last.ckpt")
    online = read_checkpoint(finished / "online" / "checkpoints" / "last.ckpt")
    frozen = online.under("policies.frozen.0.")
    for key, value in offline.part("policy").items():
        assert torch.equal(frozen[key], value)
    assert online.header.data == offline.header.data


def test_the_saved_configuration_runs_again(command, finished: Path, tmp_path: Path):
    saved = finished / "online" / "config.yaml"
    outcome = command("fit", "--config", str(saved), f"--run.root={tmp_path}")
    assert outcome.code == 0, outcome.err
    again = read_checkpoint(tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt")
    first = read_checkpoint(finished / "online" / "checkpoints" / "last.ckpt")
    assert all(
        torch.equal(again.state_dict[key], first.state_dict[key]) for key in again.state_dict
    )


def test_another_seed_gives_another_policy(command, tiny, finished: Path, tmp_path: Path):
    iql = tiny(tmp_path, "--seed_everything=1", config="conf/iql/pointmaze.yaml")
    assert command(*iql).code == 0
    other = read_checkpoint(tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt")
    first = read_checkpoint(finished / "offline" / "checkpoints" / "last.ckpt")
    assert not torch.equal(other.part("policy")["log_std"], first.part("policy")["log_std"])


def test_the_offline_stage_alone_is_the_one_before_an_online_stage(
    command, tiny, finished: Path, tmp_path: Path
):
    assert command(*tiny(tmp_path, config="conf/iql/pointmaze.yaml")).code == 0
    alone = read_checkpoint(tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt")
    first = read_checkpoint(finished / "offline" / "checkpoints" / "last.ckpt")
    assert all(
        torch.equal(alone.state_dict[key], first.state_dict[key]) for key in first.state_dict
    )


def test_an_offline_checkpoint_skips_the_stage(command, tiny, finished: Path, tmp_path: Path):
    offline = finished / "offline" / "checkpoints" / "last.ckpt"
    outcome = command(*tiny(tmp_path, f"--offline.ckpt_path={offline}"))
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "tiny" / "offline").exists()
    again = read_checkpoint(tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt")
    first = read_checkpoint(finished / "online" / "checkpoints" / "last.ckpt")
    assert all(
        torch.equal(again.state_dict[key], first.state_dict[key]) for key in again.state_dict
    )


def test_overrides_reach_both_stages(command, tiny, tmp_path: Path):
    more = ["--model.expectile=0.6", "--model.inv_temperature=5", "--offline.model.beta=2"]
    outcome = command(*tiny(tmp_path, *more, "--trainer.precision=bf16-mixed"))
    assert outcome.code == 0, outcome.err
    offline = read_checkpoint(tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt")
    online = read_checkpoint(tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt")
    assert online.hyper_parameters["expectile"] == offline.hyper_parameters["expectile"] == 0.6
    assert online.hyper_parameters["inv_temperature"] == 5.0
    assert (online.hyper_parameters["beta"], offline.hyper_parameters["beta"]) == (10.0, 2.0)
    config = yaml.safe_load((tmp_path / "tiny" / "online" / "config.yaml").read_text())
    assert config["offline"]["trainer"]["precision"] == "bf16-mixed"


def test_files_merge_left_to_right_before_references_are_resolved(command, tiny, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("model:\n  init_args:\n    gamma: 0.5\n")
    outcome = command(*tiny(tmp_path, f"--config={tmp_path / 'mine.yaml'}", "--print_config"))
    assert outcome.code == 0, outcome.err
    config = yaml.safe_load(outcome.out)
    assert config["model"]["init_args"]["gamma"] == 0.5
    assert not (tmp_path / "tiny").exists()


def test_gradient_clipping_is_the_trainers_flag(command, tiny, tmp_path: Path):
    args = tiny(tmp_path, "--trainer.gradient_clip_val=0.5", config="conf/iql/pointmaze.yaml")
    outcome = command(*args)
    assert outcome.code == 0, outcome.err
    saved = read_checkpoint(tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt")
    assert saved.hyper_parameters["gradient_clip_val"] == 0.5


def test_fast_dev_run_goes_through_both_stages_and_leaves_nothing(command, tiny, tmp_path: Path):
    outcome = command(*tiny(tmp_path, "--trainer.fast_dev_run=true"))
    assert "test --ckpt_path" not in outcome.err
    assert outcome.code == 0, outcome.err
    assert "Hand-over" in outcome.err
    assert not (tmp_path / "tiny").exists()


def test_a_run_is_not_overwritten_unless_asked(command, tiny, tmp_path: Path):
    iql = tiny(tmp_path, "--trainer.max_steps=10", config="conf/iql/pointmaze.yaml")
    assert command(*iql).code == 0
    checkpoint = tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt"
    before = checkpoint.read_bytes()
    outcome = command(*iql)
    assert outcome.code == 2
    assert "--ckpt_path last" in outcome.err
    assert "--run.overwrite" in outcome.err
    assert checkpoint.read_bytes() == before
    assert command(*iql, "--run.overwrite=true", "--seed_everything=3").code == 0
    assert checkpoint.read_bytes() != before


def test_the_terminal_is_free_of_adverts_and_warnings(command, tiny, tmp_path: Path):
    process = command.start(*tiny(tmp_path))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out == ""
    # The summary warns of so short a run in sentences of its own.
    lines = [line for line in err.splitlines() if not line.startswith("Warning: ")]
    for noise in ("Tip", "litlogger", "Warning", "GPU available", "Seed set", "[torchrl]"):
        assert not any(noise in line for line in lines), err
    assert "offline 1/2" in err
    assert "online 2/2" in err
    assert "score" in err
    assert "Finished" in err


def test_overwriting_deletes_nothing_before_all_is_checked(command, tiny, refused, tmp_path: Path):
    iql = tiny(tmp_path, "--trainer.max_steps=10", config="conf/iql/pointmaze.yaml")
    assert command(*iql).code == 0
    last = tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt"
    refused(command(*iql, "--run.overwrite=true", "--data.dataset=nope"), "nope")
    online = tiny(tmp_path, "--run.overwrite=true", f"--offline.ckpt_path={last}")
    refused(command(*online), "--run.overwrite would delete", "--offline.ckpt_path")
    assert last.exists()


def test_resuming_from_a_file_does_not_replace_another_run(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    assert command(*tiny(tmp_path, config="conf/iql/pointmaze.yaml")).code == 0
    last = tmp_path / "tiny" / "offline" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    other = finished / "offline" / "checkpoints" / "last.ckpt"
    args = tiny(
        tmp_path,
        f"--ckpt_path={other}",
        "--trainer.max_steps=60",
        config="conf/iql/pointmaze.yaml",
    )
    refused(command(*args), "already holds a run")
    assert last.read_bytes() == before


def test_a_stage_that_a_limit_cuts_short_does_not_pass_for_finished(
    command, tiny, refused, tmp_path: Path
):
    refused(command(*tiny(tmp_path, "--offline.trainer.max_epochs=0")), "offline stage ended at 0")
    iql = tiny(
        tmp_path, "--trainer.max_epochs=0", "--run.name=none", config="conf/iql/pointmaze.yaml"
    )
    refused(command(*iql), "ended at 0 of 40", "max_epochs")


def test_overwrite_deletes_what_the_run_wrote_and_nothing_else(command, tiny, tmp_path: Path):
    assert command(*tiny(tmp_path)).code == 0
    online = tmp_path / "tiny" / "online"
    mine = [online / "notes.txt", online / "checkpoints" / "keep.ckpt", tmp_path / "tiny" / "a.md"]
    for path in mine:
        path.write_text("mine")
    replay = set((online / "checkpoints" / "replay" / "rank-0").iterdir())
    assert replay
    outcome = command(*tiny(tmp_path, "--run.overwrite=true", "--seed_everything=3"))
    assert outcome.code == 0, outcome.err
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not replay & set((online / "checkpoints" / "replay" / "rank-0").iterdir())
    assert len((online / "metrics.csv").read_text().splitlines()) > 1
    assert len(list(online.glob("events.out.tfevents.*"))) == 1
