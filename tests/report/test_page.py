"""What is in a report, without a browser."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from commands import Command
from pex_lightning.report.drawing import Painter, series_of, sketch
from pex_lightning.report.page import write_report
from pex_lightning.report.provenance import provenance
from pex_lightning.report.reading import read_runs
from pex_lightning.report.results import compared
from pex_lightning.report.tables import Table, differences, measures, signs
from pex_lightning.studies.records import FoundRun, find_runs
from pex_lightning.studies.table import collect
from report.runs import write_provenance, write_run


def report(path: Path) -> str:
    """The page about a folder, written beside it."""
    page = path.parent / "report.html"
    write_report(find_runs([path]), page, path.parent / "figures")
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(reported: Path) -> Path:
    return reported / "study"


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "report.html").read_text(encoding="utf-8")


def test_page_has_every_section_and_needs_no_other_file(page: str) -> None:
    for title in (
        "Results",
        "Learning curves",
        "Performance profile",
        "Probability of improvement",
        "Which member acted",
        "Entropy of the choice",
        "Signs of failure",
        "Differences between configurations",
        "Runs",
        "Provenance",
    ):
        assert f">{title}<" in page, title
    assert "made:toy (0123456789abcdef)" in page
    assert "3 of the 9 starts fail now" in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert "@import" not in page


def test_names_and_reasons_of_runs_are_text(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{"
    write_run(tmp_path / "s", attack, 0, (1, 2), task=f"a{attack}"[:20], reason=attack)
    other = write_run(tmp_path / "s", "other", 0, (1, 2), state="failed", reason=f"{attack}\ud800")
    file = other / "online/metrics.csv"
    file.write_text(file.read_text().replace("online_policy", "\x01<b>_policy"))
    page = report(tmp_path / "s")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "&lt;script&gt;alert(1)" in page


def test_variants_without_a_common_task_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "s", "one", 0, (1, 2), task="here")
    write_run(tmp_path / "s", "two", 0, (1, 2), task="there")
    assert "probability-of-improvement" not in report(tmp_path / "s")
    write_run(tmp_path / "s", "two", 0, (1, 3), task="here")
    assert "probability-of-improvement" in report(tmp_path / "s")


def test_every_figure_is_a_png_and_an_svg_file_that_the_page_links(page: str, study: Path) -> None:
    files = sorted((study.parent / "figures").iterdir())
    assert len(files) == 2 * page.count("<figure ")
    for file in files:
        assert f"figures/{file.name}" in page
        if file.suffix == ".svg":
            assert "<text" in file.read_text()
        else:
            assert file.read_bytes().startswith(b"\x89PNG")


def test_ids_in_the_page_are_unique_and_references_have_one(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    for target in re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page):
        assert target in ids, target


def test_hovering_tells_values_with_their_interval_and_seeds(page: str) -> None:
    embedded = re.search(r'id="points">(.*?)</script>', page, re.S)
    assert embedded is not None
    texts = [point[3] for points in json.loads(embedded[1]).values() for point in points]
    assert any(
        text.startswith("first: 91 [9")
        and "\n400 environment steps" in text
        and "90, 91, 92" in text
        for text in texts
    ), texts[:5]
    assert "first better than second: 1.00 [1, 1]" in texts


def test_measures_are_of_finished_runs_only(page: str) -> None:
    table = page[page.index("<table") : page.index("</table")]
    assert "first" in table
    assert "third" not in table
    assert "1 of 7 runs are not finished" in page


def tables(folder: Path, threshold: float | None = None) -> tuple[list[Table], list[str]]:
    """The tables of measures, and what is said of variants that are not averaged."""
    runs = read_runs(find_runs([folder]))
    names = {id(run): run.record.variant for run in runs}
    frame = collect([FoundRun(run.folder, run.record) for run in runs])
    found = compared(runs, names, frame, threshold)
    assert found is not None
    return list(measures(found, threshold)), found.incomplete()


def test_steps_to_a_threshold_count_runs_that_never_reach_it(tmp_path: Path) -> None:
    for seed, last in enumerate((70, 40, 40)):
        write_run(tmp_path, "v", seed, (10, last))
    ((table,), _) = tables(tmp_path, 60)
    assert table.head[-1] == "steps to 60"
    assert (table.rows[0][-1].text, table.rows[0][-1].below) == ("never", "1 of 3")


def test_variants_without_a_run_on_every_task_are_not_averaged(tmp_path: Path) -> None:
    for task in ("a", "b"):
        write_run(tmp_path, "both", 0, (10, 20), task=task)
    write_run(tmp_path, "once", 0, (10, 90), task="a")
    ((everything, of_a, of_b), said) = tables(tmp_path)
    assert [row[0].text for row in everything.rows] == ["both"]
    assert [row[0].text for row in of_a.rows] == ["both", "once"]
    assert [row[0].text for row in of_b.rows] == ["both"]
    assert "not averaged over tasks: once." in said[0]


def test_returns_of_several_tasks_are_not_averaged(tmp_path: Path) -> None:
    for task in ("a", "b"):
        folder = write_run(tmp_path, "v", 0, (10, 20), task=task)
        for stage in ("offline", "online"):
            file = folder / stage / "metrics.csv"
            file.write_text(file.read_text().replace("eval/score", "eval/return"))
    found, _ = tables(tmp_path)
    assert [table.title for table in found] == ["a (return)", "b (return)"]


def test_differences_between_configurations_are_the_only_ones_listed(study: Path) -> None:
    named: dict[str, list] = {}
    for run in read_runs(find_runs([study])):
        named.setdefault(run.record.variant, []).append(run)
    (table,) = differences(named)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["model.init_args.beta", "1", "3", "1"]
    ]
    assert table.head == ("setting", "first", "second", "third")


def test_a_section_that_a_variant_lacks_is_one_row(tmp_path: Path) -> None:
    configs = {
        "both": {"offline": {"steps": 8, "trainer": {"a": 1, "b": 2}}, "model": {"x": 1}},
        "scratch": {"offline": None, "model": {"x": 1, "only": None, "other": 5}},
    }
    named = {}
    for variant, config in configs.items():
        run = write_run(tmp_path, variant, 0, (1, 2))
        (run / "online/config.yaml").write_text(json.dumps(config))
        named[variant] = read_runs(find_runs([run]))
    (table,) = differences(named)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["offline.*", "set", ""],
        ["model.other", "", "5"],
    ]


def test_signs_name_run_stage_and_step(study: Path) -> None:
    (row,) = signs(read_runs(find_runs([study]))).rows
    assert [cell.text for cell in row[1:]] == [
        "online",
        "starts lost",
        "200",
        "3 of the 9 starts fail now",
    ]


def test_a_run_says_what_made_it(page: str, study: Path) -> None:
    section = page[page.index('id="provenance"') :]
    (name,) = re.findall(r"<details><summary>([^<]+)</summary>", section)
    assert (study / name / "provenance.json").exists()
    for words in (
        "seed 7",
        "pex-lightning fit --config &#39;a b.yaml&#39;",
        "1 min 1 s",
        "abc-dirty",
        "torch 2.0",
        "&lt;script&gt;document.title",
    ):
        assert words in section, words
    assert "Without a provenance.json" in section


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 50_000, "is damaged"),
        ("{}", "it has no list of attempts"),
        ('{"attempts": [{"seconds": 1e999}]}', "is damaged"),
        ('{"attempts": [3, {"command": 4, "packages": ["\\ud800"]}], "seed": {"a": []}}', None),
    ],
)
def test_damaged_provenance_is_told(tmp_path: Path, content: str, words: str | None) -> None:
    run = write_run(tmp_path, "v", 0, (1, 2))
    (run / "provenance.json").write_text(content)
    missing: list[str] = []
    assert len(list(provenance(read_runs(find_runs([run])), missing))) == (words is None)
    assert [words in sentence for sentence in missing if words] == [True] * (words is not None)


def test_of_many_attempts_the_first_and_the_last_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, "v", 0, (1, 2))
    write_provenance(run, attempts=20)
    (table,) = provenance(read_runs(find_runs([run])), [])
    assert table.head[1:3] == ("attempt 1", "attempt 16")
    assert "of 20 attempts" in table.caption


def test_variants_stand_in_the_order_of_the_study(tmp_path: Path) -> None:
    for variant in ("a", "b", "c", "gone"):
        for seed in (1, 0):
            write_run(tmp_path, variant, seed, (10, 20))
    study = {"study": {"tasks": {"toy": {}}, "variants": {"c": {}, "a": {}, "b": None}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    runs = [(run.record.variant, run.record.seed) for run in find_runs([tmp_path])]
    assert runs == [(variant, seed) for variant in ("c", "a", "b", "gone") for seed in (0, 1)]
    ((table,), _) = tables(tmp_path)
    assert [row[0].text for row in table.rows] == ["c", "a", "b", "gone"]


@pytest.mark.parametrize(
    "content", ["study: [", "study: 3", "study: {tasks: {}, variants: x}", "["]
)
def test_a_damaged_study_file_is_told(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    for variant in ("b", "a"):
        write_run(tmp_path, variant, 0, (10, 20))
    (tmp_path / "study.yaml").write_text(content)
    assert [run.record.variant for run in find_runs([tmp_path])] == ["b", "a"]
    assert "study.yaml is damaged" in caplog.text


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "metrics cut": (
        lambda run: (run / "online/metrics.csv").write_bytes(
            (run / "online/metrics.csv").read_bytes()[:-5]
        ),
        "lines of online/metrics.csv are damaged",
    ),
    "no metrics": (
        lambda run: (run / "online/metrics.csv").unlink(),
        "online/metrics.csv is missing",
    ),
    "metrics are a folder": (
        lambda run: [(run / "online/metrics.csv").unlink(), (run / "online/metrics.csv").mkdir()],
        "online/metrics.csv cannot be read",
    ),
    "metrics of zero bytes": (
        lambda run: (run / "online/metrics.csv").write_bytes(b"\0" * 100),
        "online/metrics.csv has no row that can be read",
    ),
    "config is no YAML": (
        lambda run: (run / "online/config.yaml").write_text("a: [1"),
        "online/config.yaml is damaged",
    ),
    "config runs code": (
        lambda run: (run / "online/config.yaml").write_text("a: !!python/object/apply:os.abort []"),
        "online/config.yaml is damaged",
    ),
    "config of many aliases": (
        lambda run: (run / "online/config.yaml").write_text(
            "a0: &a0 {x: 1, y: 2}\n"
            + "".join(f"a{n + 1}: &a{n + 1} {{x: *a{n}, y: *a{n}}}\n" for n in range(30))
        ),
        "online/config.yaml is damaged",
    ),
    "config nests": (
        lambda run: (run / "online/config.yaml").write_text("[" * 100_000),
        "online/config.yaml is damaged",
    ),
    "diagnostics are no JSON": (
        lambda run: (run / "online/diagnostics.json").write_text("[" * 100_000),
        "online/diagnostics.json is damaged",
    ),
    "signs are no list": (
        lambda run: (run / "online/diagnostics.json").write_text('{"signs": {"a": 1}}'),
        "",
    ),
    "no stage": (
        lambda run: [(run / stage).rename(run / f"{stage}-old") for stage in ("offline", "online")],
        "it has neither an offline nor an online stage yet",
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_run_that_broke_is_read_as_far_as_it_can_be(broken: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, "broken", 0, (10, 30))
    what, said = BREAKS[broken]
    what(run)
    (read,) = read_runs(find_runs([run]))
    assert said in "; ".join(read.notes)


def test_runs_that_broke_are_in_the_page_with_what_they_lack(tmp_path: Path) -> None:
    for number, (what, _) in enumerate(BREAKS.values()):
        what(write_run(tmp_path / "s", "broken", number, (10, 30)))
    write_run(tmp_path / "s", "diverged", 0, (10, float("nan")))
    page = report(tmp_path / "s")
    for _, said in BREAKS.values():
        assert said in page
    assert f"{len(BREAKS) + 1} finished" in page


def test_a_lone_run_without_any_evaluation_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s", "v", 0, (1, 2), state="running")
    for stage in ("offline", "online"):
        (run / stage / "metrics.csv").unlink()
    page = report(run)
    assert "No run has an evaluation that can be read." in page


def test_the_same_run_of_two_folders_is_two_variants(tmp_path: Path) -> None:
    for folder in ("s", "t"):
        write_run(tmp_path / folder, "v", 0, (1, 2))
    runs = read_runs(find_runs([tmp_path / "s", tmp_path / "t"]))
    assert [run.record.variant for run in runs] == ["v", "v (2)"]


def test_figures_of_names_that_differ_only_in_letters_no_file_may_have_are_all_kept(
    tmp_path: Path,
) -> None:
    painter = Painter(tmp_path)
    for _ in range(2):
        begun = sketch("a/b", "title", "caption")
        begun.line(series_of(["x"])["x"], np.arange(3.0), np.arange(3.0), told=str)
        drawing = painter.draw(begun)
        for file in drawing.files:
            assert file.parent == tmp_path
        ET.fromstring(drawing.svg)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ("paths",)),
        (["nowhere"], ("nowhere", "no such folder")),
        (["{empty}"], ("holds no run",)),
        (["{run}", "--out", "{empty}"], ("--out", ".html")),
        (["{run}", "--out", "{empty}/no/report.html"], ("report.html", "written")),
        (["{run}", "--out", "{empty}/r.html", "--figures", "{run}/run.json"], ("--figures",)),
    ],
)
def test_mistakes_are_refused(
    args: list[str],
    words: tuple[str, ...],
    command: Command,
    refused: Callable[..., None],
    study: Path,
    tmp_path: Path,
) -> None:
    places = {"empty": str(tmp_path), "run": str(next(study.iterdir()))}
    refused(command("report", *(arg.format(**places) for arg in args)), *words)
    assert not list(tmp_path.glob("*.html"))


def test_the_command_says_what_it_wrote(command: Command, study: Path, tmp_path: Path) -> None:
    run = next(iter(sorted(study.iterdir())))
    outcome = command("report", str(run), "--out", str(tmp_path / "r.html"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{tmp_path}/r.html: a report of 1 run; ")
    assert (tmp_path / "r-figures").is_dir()
    assert len(outcome.out.splitlines()) == 1
