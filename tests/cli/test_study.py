"""`pex-lightning study`: from its file to the results, and what is refused before it starts."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml

from pex_lightning.cli.study import read_study
from pex_lightning.studies.records import find_runs, read_record
from pex_lightning.studies.table import read_table
from tiny_studies import TINY, write_study

BOTH = {
    "pex": {"config": ["conf/methods/pex.yaml"]},
    "direct": {"config": ["conf/methods/direct.yaml"]},
}


@pytest.mark.slow
def test_a_study_runs_sums_up_and_is_done(command, tmp_path: Path) -> None:
    gone = {"data.path": str(tmp_path / "gone.hdf5"), "data.source": "file"}
    variants = {**BOTH, "broken": {"config": ["conf/methods/direct.yaml"], "set": gone}}
    file = write_study(tmp_path, variants=variants)
    outcome = command("study", "--config", str(file))
    assert outcome.code == 1, outcome.err
    assert "2 of 3 runs have finished, 1 have failed" in outcome.out
    assert "--study.retry failed" in outcome.out
    folder = tmp_path / "demo"
    states = {run.record.variant: run.record.state for run in find_runs([folder])}
    assert states == {"pex": "finished", "direct": "finished", "broken": "failed"}
    reason = read_record(folder / "maze-broken-0").reason
    assert reason is not None
    assert "gone.hdf5" in reason

    # One offline stage was trained, and taken by the other.
    assert len(list((tmp_path / "offline-stages").iterdir())) == 1
    log = (folder / "maze-direct-0" / "log.txt").read_text()
    assert "The offline stage is taken from" in log

    frame = read_table(folder)
    assert set(frame["variant"]) == {"pex", "direct"}
    assert set(frame["step"]) >= {0, 20, 40}
    summary = (folder / "summary.md").read_text()
    assert "gone.hdf5" in summary
    assert (folder / "study.yaml").exists()

    before = [run.record for run in find_runs([folder])]
    again = command("study", "--config", str(file))
    assert again.code == 1
    assert [run.record for run in find_runs([folder])] == before

    fixed = {**variants, "broken": {"config": ["conf/methods/direct.yaml"]}}
    file = write_study(tmp_path, variants=fixed)
    outcome = command("study", "--config", str(file), "--study.retry", "maze-broken-0")
    assert outcome.code == 0, outcome.err + outcome.out
    assert "3 of 3 runs have finished" in outcome.out


@pytest.mark.slow
def test_a_dry_run_measures_and_starts_nothing(command, tmp_path: Path) -> None:
    file = write_study(tmp_path, seeds=[0, 1, 2])
    outcome = command("study", "--config", str(file), "--dry_run")
    assert outcome.code == 0, outcome.err
    assert "3 runs" in outcome.out
    assert "About" in outcome.out
    assert not (tmp_path / "demo").exists()


def test_a_mistake_in_one_variant_is_said_before_anything_starts(
    command, refused, tmp_path: Path
) -> None:
    variants = {
        "good": {"config": ["conf/methods/direct.yaml"]},
        "bad": {"config": ["conf/methods/direct.yaml"], "set": {"model.tua": 0.1}},
        "worse": {"config": ["conf/methods/driect.yaml"]},
    }
    file = write_study(tmp_path, variants=variants)
    outcome = command("study", "--config", str(file))
    refused(outcome, "variant bad on task maze", "tua", "variant worse on task maze", "driect")
    assert "variant good" not in outcome.err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--study.seeds", "[0, 0]"], ["--study.seeds"]),
        (["--study.sedes", "[0]"], ["sedes"]),
        (["--study.jobs", "two"], ["--study.jobs is 'two', expected int or null."]),
        (["--study.backend", "x"], ["is 'x', expected one of 'local', 'ray', 'slurm'."]),
        (["--study.tasks", '{"a": null}'], ["--study.tasks is 'None', expected a group of set"]),
        (["--study.retry", "maze-direct-7"], ["maze-direct-7", "no failed run"]),
        (["--config", "conf/studies/none.yaml"], ["conf/studies/none.yaml"]),
        (["--study.backend", "ray", "--study.address", "127.0.0.1:1"], ["127.0.0.1:1"]),
    ],
)
def test_wrong_arguments_are_refused(
    command, refused, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    if "ray" in arguments:
        pytest.importorskip("ray")
    file = write_study(tmp_path)
    refused(command("study", "--config", str(file), *arguments), *words)


def test_files_are_merged_name_by_name(tmp_path: Path) -> None:
    write_study(tmp_path, variants=BOTH)
    more = {
        "variants": {"pex": {"set": {"model.beta": 3.0}}, "direct": None, "new": {}},
        "set": {"trainer.max_steps": 20},
        "seeds": [1],
    }
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump({"base": ["demo.yaml"], "study": more}))
    study = read_study(["--config", str(file), "--study.jobs", "7"]).study
    assert list(study.variants) == ["pex", "new"]
    assert study.variants["pex"].config == ["conf/methods/pex.yaml"]
    assert study.variants["pex"].set == {"model.beta": 3.0}
    assert study.set == {**TINY, "trainer.max_steps": 20}
    assert (study.seeds, study.jobs, list(study.tasks)) == ([1], 7, ["maze"])


def test_merging_keeps_what_the_runs_are_to_resolve_or_read(tmp_path: Path) -> None:
    own = {"trainer.max_steps": "${offline.max_steps}", "run.name": datetime.date(2026, 1, 2)}
    file = write_study(tmp_path, set={**TINY, **own})
    study = read_study(["--config", str(file)]).study
    assert study.set == {**TINY, **own, "run.name": "2026-01-02"}


def test_a_setting_that_one_variant_does_not_take_is_said_of_it(
    command, refused, tmp_path: Path
) -> None:
    variants = {"offline": {"config": ["conf/methods/offline.yaml"]}}
    outcome = command("study", "--config", str(write_study(tmp_path, variants=variants)))
    refused(outcome, "variant offline on task maze", "'data.start_steps' here", "OnlineData has it")


def test_a_study_without_a_file_says_what_it_needs(command, refused) -> None:
    refused(command("study"), "study")
