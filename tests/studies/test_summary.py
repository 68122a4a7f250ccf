from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pex_lightning.studies.markdown import NOTHING
from pex_lightning.studies.records import FoundRun
from pex_lightning.studies.statistics import probability_of_improvement, stratified_bootstrap
from pex_lightning.studies.summary import summary
from pex_lightning.studies.table import collect

OFFLINE = (60.0, 61.0, 62.0, 63.0, 69.0)
PEX = (90.0, 95.0, 62.5, 99.0, 100.0)


def rows(text: str, section: str, table: int = 0) -> list[list[str]]:
    """The cells of a table of a section, without the ruler."""
    part = text.split(f"\n## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    tables = [block for block in part.strip().split("\n\n") if block.startswith("|")]
    lines = [line for line in tables[table].splitlines() if not line.startswith("| --")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.fixture
def five(make_run: Any) -> list[FoundRun]:
    """Two variants with five seeds each."""
    runs = [
        make_run("offline", seed, offline=[(0, 0, 0.0), (100, 0, score)], online=())
        for seed, score in enumerate(OFFLINE)
    ]
    return runs + [
        make_run("pex", seed, online=[(0, 0, 50.0), (20, 2_000, score)])
        for seed, score in enumerate(PEX)
    ]


def test_a_study_of_one_task(five: list[FoundRun]) -> None:
    text = summary(five, threshold=95.0)
    assert text.startswith("# Results of demo\n\n10 runs of 10 counted: 2 variants on 1 task.\n")
    assert "not counted" not in text
    assert "What to keep in mind" not in text
    header, offline, pex = rows(text, "toy")
    assert header[-1] == "steps to 95"
    found = stratified_bootstrap([PEX])
    of_pex = dict(zip(header, pex, strict=True))
    assert of_pex["final"] == f"{np.mean([90, 95, 99]):.1f} [{found.low:.1f}, {found.high:.1f}]"
    assert of_pex["runs"] == "5"
    assert of_pex["change"] == "0.0 [0.0, 0.0]"
    assert of_pex["steps to 95"] == "2,000 (3 of 5)"
    of_offline = dict(zip(header, offline, strict=True))
    assert of_offline["offline"].startswith("62.0 [")
    assert of_offline["area"] == of_offline["regret"] == of_offline["steps to 95"] == NOTHING
    better = probability_of_improvement([PEX], [OFFLINE])
    assert rows(text, "Probability of being better than offline")[1] == [
        "pex",
        "1",
        f"0.92 [{better.low:.2f}, {better.high:.2f}]",
        NOTHING,
    ]
    levels = rows(text, "toy", 1)
    assert levels[0] == ["variant", "> 25", "> 50", "> 75", "> 90"]
    assert levels[2][0] == "pex"
    assert levels[2][-1].startswith("60 [")


def test_a_table_given_is_the_same_as_one_read(five: list[FoundRun], make_run: Any) -> None:
    runs = [*five, make_run("pex", 5, state="running")]
    assert summary(runs, collect(runs), threshold=95.0) == summary(runs, threshold=95.0)


def test_a_threshold_that_too_few_reach(five: list[FoundRun]) -> None:
    assert rows(summary(five, threshold=99.5), "toy")[2][-1] == f"{NOTHING} (1 of 5)"


def test_runs_that_are_not_finished_are_listed_and_not_counted(
    five: list[FoundRun], make_run: Any
) -> None:
    failed = make_run("pex", 5, state="failed", reason="the disk | is full", online=[(0, 0, 0.0)])
    empty = make_run("pex", 6, offline=(), online=())
    text = summary([*five, failed, empty, make_run("pex", 7, state="running")])
    assert "10 runs of 13 counted" in text
    assert rows(text, "Runs that are not counted") == [
        ["run", "state", "reason"],
        ["toy-pex-5", "failed", "the disk \\| is full"],
        ["toy-pex-6", "finished", "it holds no evaluation"],
        ["toy-pex-7", "running", ""],
    ]
    assert rows(text, "toy")[2][1] == "5"
    assert rows(text, "toy")[2][3].startswith("50.0 [")


def test_nothing_is_finished(make_run: Any) -> None:
    text = summary([make_run("pex", s, state="waiting", offline=(), online=()) for s in (0, 1)])
    assert "None of 2 runs is finished" in text
    assert "2 runs not begun." in text
    assert "|" not in text


def test_few_seeds_are_said(five: list[FoundRun]) -> None:
    text = summary([run for run in five if run.record.seed < 3])
    assert "- Intervals of 3 seeds are rough" in text
    text = summary([run for run in five if run.record.seed < 1])
    assert "- There is one seed, so no interval is given" in text
    assert "[" not in text.split("## toy")[1]
    text = summary([run for run in five if run.record.seed < 1 or run.record.variant == "pex"])
    assert "- Where a variant has one seed on a task, no interval is given" in text
    assert "- Variants have different numbers of runs on toy: offline 1, pex 5." in text


def test_runs_that_are_not_alike_are_said(make_run: Any) -> None:
    runs = [
        make_run("a", 0, version="0.1.0", git_revision="abc"),
        make_run("a", 1, version="0.2.0", git_revision="abd", online=[(0, 0, 1.0), (9, 99, 1.0)]),
        make_run("a", 2, version="0.2.0", fingerprint="beef", online=()),
    ]
    text = summary(runs)
    for sentence in (
        "- **Runs on toy have different datasets**: made:toy (f00d); made:toy (beef).",
        "- **Runs were made with different versions of this package**: 0.1.0, 0.2.0.",
        "- **Runs were made from different revisions of the code**: abc, abd, none known.",
        "- **Runs of a on toy ended after different numbers of updates**: from 9 to 100.",
        "- Online stages on toy end after 99 to 2,000 environment steps",
        "- Online stages on toy were evaluated different numbers of times (a 2 or 3)",
        "- **1 of 3 runs of a on toy have no usable evaluation of an online stage**",
        "Made with pex-lightning 0.1.0 (revision abc), 0.2.0 (revision abd), 0.2.0.",
    ):
        assert sentence in text
    assert "(2 of 3 runs)" in rows(text, "toy")[1][3]


def test_several_tasks_are_averaged_where_scores_have_one_unit(
    five: list[FoundRun], make_run: Any
) -> None:
    more = [make_run("pex", seed, task="b", online=[(0, 0, 10.0)]) for seed in range(4)]
    text = summary([*five, *more])
    assert rows(text, "All tasks together")[1:] == [rows(text, "All tasks together")[1]]
    pex = rows(text, "All tasks together")[1]
    found = stratified_bootstrap([PEX, [10.0] * 4])
    assert pex[:2] == ["pex", "9"]
    assert f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]" in pex
    assert (
        "- offline has no finished run on b: it is left out where tasks are taken together." in text
    )
    assert "- pex has from 4 to 5 runs on a task" in text


def test_returns_of_several_tasks_are_not_averaged(make_run: Any) -> None:
    runs = [make_run(v, task=t, metric="eval/return") for v in "xy" for t in "ab"]
    text = summary(runs)
    assert "Scores are not averaged over tasks" in text
    assert "A score is the undiscounted return of an episode." in text
    assert rows(text, "Probability of being better than x")[1][:3] == ["y", "2", "0.50"]
    mixed = [make_run("z", task="a", metric="eval/success"), make_run("z", task="c")]
    assert "Scores are not averaged over tasks" in summary(mixed)


def test_no_variant_is_on_all_tasks(make_run: Any) -> None:
    text = summary([make_run("x", task="a"), make_run("y", task="b")])
    assert "No variant has a finished run on every task" in text
    assert rows(text, "Probability of being better than x")[1] == ["y", "0", NOTHING, NOTHING]


def test_the_reference_can_be_named(five: list[FoundRun]) -> None:
    text = summary(five, reference="pex")
    assert rows(text, "Probability of being better than pex")[1][0] == "offline"


def test_a_reference_without_a_finished_run_is_replaced_by_the_first(five: list[FoundRun]) -> None:
    text = summary(five, reference="direct")
    assert rows(text, "Probability of being better than offline")[1][0] == "pex"
    assert "No run of direct is finished, so offline is in its place." in text
    assert "in its place" not in summary(five)


def test_variants_of_several_studies_have_its_name(make_run: Any) -> None:
    text = summary([make_run("pex"), make_run("pex", study="other")])
    assert text.startswith("# Results of demo, other\n")
    assert [row[0] for row in rows(text, "toy")] == ["variant", "demo: pex", "other: pex"]


def test_tables_are_aligned(five: list[FoundRun]) -> None:
    blocks = [b for b in summary(five, threshold=50.0).split("\n\n") if b.startswith("|")]
    assert len(blocks) >= 4
    for block in blocks:
        assert len({len(line) for line in block.splitlines()}) == 1
