"""The page of measures says what the code does, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pex_lightning.studies.records import FoundRun, RunRecord
from pex_lightning.studies.statistics import REPLICATIONS
from pex_lightning.studies.summary import _MEASURES, summary
from pex_lightning.studies.table import COLUMNS, collect, write_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "measures.md").read_text()


def one_run(root: Path) -> FoundRun:
    run = FoundRun(root / "run", RunRecord("methods", "a", "toy", 0, state="finished"))
    (run.folder / "online").mkdir(parents=True)
    (run.folder / "online" / "metrics.csv").write_text(
        "step,dataset,fingerprint,env,eval/score,env_steps\n0,d,f,Toy,1.0,0\n9,d,f,Toy,95.0,70\n"
    )
    return run


def test_every_measure_and_every_column_is_on_the_page() -> None:
    assert [f"| {name} |" for name in _MEASURES if f"\n| {name} |" not in PAGE] == []
    table = PAGE.split("## The table of results")[1]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert set(named) == set(COLUMNS)
    assert f"{REPLICATIONS:,} bootstrap" in PAGE


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "runs" / "methods").mkdir(parents=True)
    write_table(tmp_path / "runs" / "methods", collect([one_run(tmp_path)]))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.strip().endswith("95.0 70.0")


def test_the_summary_explains_its_columns(tmp_path: Path) -> None:
    text = summary([one_run(tmp_path)], threshold=90.0)
    explained = set(re.findall(r"^- \*\*([^*]+)\*\*:", text, re.MULTILINE))
    assert explained == {*_MEASURES, "steps to 90"}
