"""What a finished run says, from the files that it left."""

import math
from pathlib import Path

import pytest

from pex_lightning.callbacks.durations import duration
from pex_lightning.callbacks.run_summary import RunEnd, run_summary, scores_so_far
from pex_lightning.evaluation.intervals import Estimate, of_mean, of_rate

MAZE = "pex_lightning/PointMaze-Medium-v0"


def stage(folder: Path, name: str, rates: dict[int, float], shares: bool = False) -> Path:
    """A stage of a maze, where a return is a success, with a row for each evaluation."""
    checkpoints = folder / name / "checkpoints"
    checkpoints.mkdir(parents=True)
    for file in ("last.ckpt", "best.ckpt"):
        (checkpoints / file).touch()
    lines = ["step,seconds,env,eval/return,eval/success,eval/score,env_steps"]
    lines[0] += ",train/offline_policy_share,train/online_policy_share" if shares else ""
    for number, (step, rate) in enumerate(rates.items()):
        share = f",{0.9 - 0.3 * number},{0.1 + 0.3 * number}" if shares else ""
        lines.append(f"{step},{step},{MAZE},{rate},{rate},{100 * rate},{10 * step}{share}")
    (folder / name / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder / name


def test_it_names_what_matters_and_what_to_do_next(tmp_path: Path) -> None:
    offline = stage(tmp_path, "offline", {0: 0.0, 80: 0.44})
    online = stage(tmp_path, "online", {0: 0.44, 10: 0.2, 20: 0.6, 30: 0.58}, shares=True)
    lines = run_summary(RunEnd(online, 100, offline))
    assert lines[0] == f"Finished after 1 min 50 s of training and evaluation: {tmp_path}"
    rows = [" ".join(line.split()) for line in lines if " updates" in line]
    assert rows == [
        "offline score 44 [34.7, 53.8] after 80 updates, 800 env steps",
        "hand-over score 44 [34.7, 53.8] after 0 updates",
        "lowest score 20 [13.3, 28.9] after 10 updates, 100 env steps",
        "best score 60 [50.2, 69.1] after 20 updates, 200 env steps",
        "last score 58 [48.2, 67.2] after 30 updates, 300 env steps",
    ]
    text = "\n".join(lines)
    assert "offline 90 % at first, 0 % at the end" in text
    assert "Warning" not in text
    assert "Worth testing is last.ckpt, as the best score, 60, is better by no more" in text
    for words in ("test --ckpt_path", "report", "export --ckpt_path", "load_policy("):
        assert words in text
    assert len(lines) <= 13


def test_a_run_that_fell_is_warned_of_and_its_best_checkpoint_named(tmp_path: Path) -> None:
    offline = stage(tmp_path, "offline", {80: 0.44})
    online = stage(tmp_path, "online", {0: 0.44, 10: 0.6, 20: 0.01})
    end = RunEnd(online, 100, offline, unfinished="the new policy waits")
    text = "\n".join(run_summary(end))
    assert "best.ckpt, since the score fell from 60 to 1" in text
    assert f"test --ckpt_path {online / 'checkpoints' / 'best.ckpt'}" in text
    assert "Warning: the last score is below that of the offline policy (more than chance" in text
    assert "the new policy waits" in text


def test_time_that_is_not_known_and_that_of_another_run_are_left_out(tmp_path: Path) -> None:
    offline = stage(tmp_path / "other", "offline", {0: 0.3, 80: 0.44})
    online = stage(tmp_path, "online", {0: 0.3, 65: 0.4})
    assert run_summary(RunEnd(online, 100, offline))[0].startswith("Finished after 1 min 5 s of")
    metrics = online / "metrics.csv"
    metrics.write_text(metrics.read_text().replace("seconds", "other"))
    assert run_summary(RunEnd(online, 100, offline))[0] == f"Finished: {tmp_path}"


def test_a_run_that_was_stopped_has_the_scores_so_far(tmp_path: Path) -> None:
    offline = stage(tmp_path, "offline", {0: 0.3, 80: 0.44})
    end = RunEnd(tmp_path / "online", 100, offline)
    assert [line.split()[0] for line in scores_so_far(end)] == ["100", "start", "best"]
    assert scores_so_far(RunEnd(tmp_path / "none", 100)) == []


def test_few_episodes_and_no_evaluation_are_said(tmp_path: Path) -> None:
    online = stage(tmp_path, "online", {0: 0.5})
    assert "19 episodes an evaluation say little" in "\n".join(run_summary(RunEnd(online, 19)))
    empty = RunEnd(tmp_path / "none" / "offline", 100)
    assert "There was no evaluation, so there is no score." in run_summary(empty)


def test_the_offline_score_is_that_of_the_checkpoint_that_was_taken(tmp_path: Path) -> None:
    offline = stage(tmp_path / "other", "offline", {40: 0.3, 80: 0.44})
    online = stage(tmp_path, "online", {0: 0.3})
    lines = run_summary(RunEnd(online, 100, offline, offline_step=40))
    assert any("offline" in line and "after 40 updates" in line for line in lines)


def test_returns_have_an_interval_where_their_spread_is_logged(tmp_path: Path) -> None:
    folder = tmp_path / "online"
    folder.mkdir()
    rows = "step,env,eval/return,eval/return_std,eval/episodes\n0,Own-v0,10,5,25\n9,Own-v0,12,,\n"
    (folder / "metrics.csv").write_text(rows)
    lines = run_summary(RunEnd(folder, 100))
    assert any("return     10 [8.04, 12]" in line for line in lines)
    assert any("return     12  after 9" in line for line in lines)


def test_intervals() -> None:
    # Wilson's interval of 8 in 10, from the table of Newcombe (1998).
    found = of_rate(0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert of_rate(0.0, 10).low == 0.0
    assert of_mean(1.0, 2.0, 16).low == pytest.approx(1 - 1.96 * 0.5, abs=1e-4)
    # Newcombe (1998), method 10: 56 of 70 and 48 of 80 differ by 0.2, from 0.0524 to 0.3339.
    assert of_rate(48 / 80, 80).is_below(of_rate(56 / 70, 70))
    assert not of_rate(0.6, 20).is_below(of_rate(0.8, 20))
    assert Estimate(1.0).is_below(Estimate(2.0))
    assert not math.isfinite(Estimate(1.0).scaled(2.0).low)


def test_durations_have_two_parts_at_most() -> None:
    assert [duration(s) for s in (0.4, 59.6, 3599, 7260)] == [
        "0 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 1 min",
    ]
