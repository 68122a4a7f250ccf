"""The page: all sections of a report, and the template that they are put into."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.report.comparison import (
    UNITS,
    Results,
    improvement,
    learning_curves,
    profile,
    results_of,
)
from pex_lightning.report.drawing import Drawing, Painter, Sketch
from pex_lightning.report.maze import Maps, map_runs
from pex_lightning.report.members import entropy, shares
from pex_lightning.report.reading import Run, read_runs
from pex_lightning.report.tables import (
    Table,
    differences,
    measures,
    run_table,
    signs,
    state_counts,
)
from pex_lightning.studies.outcomes import RunKey, evaluations, outcomes
from pex_lightning.studies.records import FoundRun
from pex_lightning.studies.table import collect
from pex_lightning.version import __version__

_FEW_SEEDS = 5


@dataclass
class Group:
    """Figures that belong together.

    Attributes:
        title: Their heading, empty for none.
        drawings: The figures.
        small: Whether they are shown side by side, small.
        folded: Whether they are hidden until the reader asks for them.
    """

    title: str = ""
    drawings: list[Drawing] = field(default_factory=list)
    small: bool = False
    folded: bool = False


@dataclass
class Section:
    """A section of the page.

    Attributes:
        id: Its anchor.
        title: Its heading.
        text: What to know before reading it.
        tables: Its tables.
        groups: Its figures.
        missing: What is left out, with the reason, one sentence each.
        folded: Whether its tables are hidden until the reader asks for them.
    """

    id: str
    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    folded: bool = False


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        page: The page.
        figures: Number of figures.
        folder: Where their files are.
    """

    page: Path
    figures: int
    folder: Path


def write_report(
    found: Sequence[FoundRun],
    page: Path,
    figures: Path,
    *,
    threshold: float | None = None,
    map_seed: int | None = None,
) -> Written:
    """Write a page about runs that needs no other file, and its figures as files.

    Args:
        found: The runs.
        page: The page to write; an existing one is replaced.
        figures: Folder of the figures, PNG and SVG; it is made where it does not exist.
        threshold: A score for the number of environment steps until it is reached.
        map_seed: The seed of the run of each variant that maps are drawn of; by default the first
            one that has a checkpoint.

    Raises:
        UserError: The page or the figures cannot be written.
    """
    if not os.access(page.parent, os.W_OK):
        raise UserError(
            f"--out {page}: {page.parent} is no folder that can be written to. Make it, or choose "
            "another one."
        )
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--figures {figures} cannot be made ({error.strerror}). Choose another folder."
        ) from error
    report = _Report(read_runs(found), Painter(figures), threshold, map_seed)
    sections = list(report.sections())
    text = _render(report, sections, page, figures)
    with written_aside(page) as aside:
        aside.write_text(text, encoding="utf-8")
    return Written(page, sum(1 for _ in _drawings(sections)), figures)


def compared(
    runs: Sequence[Run], names: Mapping[int, str], frame: pd.DataFrame, threshold: float | None
) -> Results | None:
    """What the runs have reached; None if none was evaluated.

    Args:
        runs: The runs.
        names: What their variants are called, by `id(run)`.
        frame: All of their metrics.
        threshold: A score for the number of environment steps until it is reached.
    """
    evaluated = evaluations(frame)
    if not evaluated:
        return None
    keys = {_key(run): run for run in runs}
    called = {key: names[id(run)] for key, run in keys.items()}
    finished = [one for one in evaluated if keys[one.run].record.state == "finished"]
    return results_of(evaluated, outcomes(finished, threshold), called)


class _Report:
    def __init__(
        self, runs: list[Run], painter: Painter, threshold: float | None, map_seed: int | None
    ) -> None:
        self.runs = runs
        self._painter, self._threshold, self._map_seed = painter, threshold, map_seed
        several = len({run.record.study for run in runs}) > 1
        self.names = {id(run): _name(run, with_study=several) for run in runs}
        self.tasks = tuple(dict.fromkeys(run.record.task for run in runs))
        frame = collect([FoundRun(run.folder, run.record) for run in runs])
        written = frame[["version", "git_revision"]].drop_duplicates().astype(str)
        self._versions = [" ".join(pair).strip() for pair in written.to_numpy() if any(pair)]
        self._results = compared(runs, self.names, frame, threshold)

    def sections(self) -> Iterator[Section]:
        """All sections that have anything to show or to say."""
        yield from (
            section
            for section in (
                self._measures(),
                self._curves(),
                self._comparison(),
                self._members(),
                self._maps(),
                self._signs(),
                self._differences(),
                self._list(),
            )
            if section.tables or section.groups or section.missing
        )

    def _draw(self, sketches: Iterator[Sketch] | Sequence[Sketch]) -> list[Drawing]:
        return [self._painter.draw(begun) for begun in sketches]

    def _of_task(self, task: str) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.record.task == task:
                found.setdefault(self.names[id(run)], []).append(run)
        return found

    def _measures(self) -> Section:
        section = Section("results", "Results", "Of runs that are finished.")
        if self._results is None:
            section.missing.append("No run has an evaluation that can be read.")
            return section
        if not self._results.outcomes:
            section.missing.append("No run with an evaluation is finished.")
            return section
        section.tables = list(measures(self._results, self._threshold))
        section.missing += self._results.incomplete()
        fewest = min(len(runs) for runs in self._results.outcomes.values())
        if fewest < _FEW_SEEDS:
            seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
            section.text += (
                f" Some variants have only {seeds}, so that their intervals are rough or missing, "
                "and small differences may be chance."
            )
        if not self._results.comparable:
            section.missing.append(
                "There is no table over all tasks: returns of different tasks have different units."
            )
        return section

    def _curves(self) -> Section:
        section = Section("curves", "Learning curves")
        if self._results is not None:
            for task in self._results.tasks:
                drawings = self._draw(learning_curves(self._results, task))
                section.groups.append(Group(task, drawings))
        return section

    def _comparison(self) -> Section:
        section = Section("comparison", "Comparison of final scores")
        if self._results is None or len({variant for _, variant in self._results.outcomes}) < 2:
            return section
        drawn = [s for s in (profile(self._results), improvement(self._results)) if s is not None]
        if not self._results.comparable:
            section.missing.append(
                "There is no profile: returns of different tasks have different units."
            )
        section.groups.append(Group("", self._draw(drawn)))
        return section

    def _members(self) -> Section:
        section = Section("members", "Which member acted")
        for task in self.tasks:
            runs = self._of_task(task)
            look = self._results.look if self._results is not None else {}
            known = {name: of_name for name, of_name in runs.items() if name in look}
            curve = entropy(known, task, look)
            drawings = self._draw([curve] if curve is not None else [])
            small = self._draw(shares(runs, task))
            if drawings or small:
                section.groups.append(Group(task, drawings + small, small=True))
        return section

    def _maps(self) -> Section:
        section = Section(
            "maps",
            "Maps",
            "Of one run of each variant. --map_seed chooses another one." if self.runs else "",
        )
        maps = Maps()
        for task in self.tasks:
            for run in map_runs(self._of_task(task), self._map_seed):
                if dataset := self._draw(maps.dataset(run)):
                    section.groups.append(Group("Data", dataset, small=True))
                drawings = self._draw(maps.of(run, section.missing))
                if drawings:
                    title = f"{self.names[id(run)]}, {task}, seed {run.record.seed}"
                    folded = len(section.groups) >= 6
                    section.groups.append(Group(title, drawings, small=True, folded=folded))
        return section

    def _signs(self) -> Section:
        section = Section("signs", "Signs of failure")
        table = signs(self.runs)
        diagnosed = sum(any(s.diagnostics for s in run.stages.values()) for run in self.runs)
        if table.rows:
            section.text = (
                "What runs have noticed about themselves. A sign is not yet a failure: look at the "
                "scores first."
            )
            section.tables = [table]
        elif diagnosed:
            section.missing.append(f"None of {diagnosed} runs that have diagnostics has seen one.")
        else:
            section.missing.append("No run has a diagnostics.json, which a finished stage writes.")
        section.folded = len(table.rows) > 20
        return section

    def _differences(self) -> Section:
        named: dict[str, list[Run]] = {}
        for run in self.runs:
            named.setdefault(self.names[id(run)], []).append(run)
        section = Section(
            "differences",
            "Differences between configurations",
            "Settings of config.yaml in which variants differ. Several values of a variant are "
            "separated by |; an empty cell means that it has no such setting. Seeds and names of "
            "runs are left out.",
            tables=list(differences(named)) if len(self.runs) > 1 else [],
        )
        section.folded = sum(len(table.rows) for table in section.tables) > 40
        return section

    def _list(self) -> Section:
        table = run_table(self.runs, self.names)
        return Section("runs", "Runs", tables=[table], folded=len(self.runs) > 20)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The head of the page."""
        stages = [stage for run in self.runs for stage in run.stages.values()]
        datasets = dict.fromkeys(
            f"{s.dataset} ({s.fingerprint})" if s.fingerprint else s.dataset
            for s in stages
            if s.dataset
        )
        studies = dict.fromkeys(run.record.study for run in self.runs if run.record.study)
        facts = {
            "runs": f"{len(self.runs)} ({state_counts(self.runs)})",
            "study": ", ".join(studies),
            "tasks": ", ".join(self.tasks),
            "datasets (fingerprint)": ", ".join(datasets),
            "trained with version": ", ".join(self._versions),
            "report": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, pex-lightning {__version__}",
        }
        return [(name, value) for name, value in facts.items() if value]

    @property
    def title(self) -> str:
        """The page's title."""
        studies = list(dict.fromkeys(run.record.study for run in self.runs if run.record.study))
        if len(studies) == 1:
            return f"Study {studies[0]}"
        return (
            self.runs[0].folder.resolve().name if len(self.runs) == 1 else f"{len(self.runs)} runs"
        )

    @property
    def broken(self) -> list[Run]:
        """Runs that are not finished."""
        return [run for run in self.runs if run.record.state != "finished"]


def _key(run: Run) -> RunKey:
    record = run.record
    return RunKey(record.study, record.variant, record.task, record.seed)


def _name(run: Run, *, with_study: bool) -> str:
    record = run.record
    return f"{record.study}/{record.variant}" if with_study and record.study else record.variant


def _drawings(sections: Sequence[Section]) -> Iterator[Drawing]:
    for section in sections:
        for group in section.groups:
            yield from group.drawings


def _render(report: _Report, sections: Sequence[Section], page: Path, figures: Path) -> str:
    folder = files("pex_lightning.report")
    style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    env = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # The letters that could end the element are written as escapes.
    points = json.dumps({d.id: d.points for d in _drawings(sections)}, separators=(",", ":"))
    for letter in "<>&":
        points = points.replace(letter, f"\\u{ord(letter):04x}")
    to_figures = os.path.relpath(figures, page.parent)

    def link(file: Path) -> str:
        return quote(f"{to_figures}/{file.name}")

    return env.from_string((folder / "page.html.j2").read_text(encoding="utf-8")).render(
        report=report,
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        digest=digest,
        points=Markup(points),
        markup=Markup,
        link=link,
        units=UNITS,
    )
