"""The sections of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pex_lightning.report.comparison import improvement, profile
from pex_lightning.report.curves import learning_curves
from pex_lightning.report.drawing import Drawing, Painter, Sketch
from pex_lightning.report.maps import Maps, map_runs
from pex_lightning.report.members import entropy, member_names, shares, values
from pex_lightning.report.provenance import provenance
from pex_lightning.report.reading import Run
from pex_lightning.report.results import compared
from pex_lightning.report.tables import Table, differences, measures, run_table, signs, state_counts
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


class Report:
    """What is in a report of runs.

    Args:
        runs: The runs.
        painter: Draws the figures.
        threshold: A score for the number of environment steps until it is reached.
        map_seed: Seed of the runs that maps are drawn of; by default the first of each variant.
    """

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
                self._values(),
                self._maps(),
                self._signs(),
                self._differences(),
                self._list(),
                self._provenance(),
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
        if fewest < _FEW_SEEDS and len(self.runs) > 1:
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

    def _values(self) -> Section:
        section = Section("values", "What the critic thinks of actions")
        for task in self.tasks:
            drawings = self._draw(values(self._of_task(task), task))
            if drawings:
                section.groups.append(Group(task, drawings, small=True))
        return section

    def _maps(self) -> Section:
        section = Section(
            "maps",
            "Maps",
            "Of one run of each variant. --map_seed chooses another one." if self.runs else "",
        )
        maps, variants = Maps(), len(set(self.names.values()))
        for task in self.tasks:
            for run in map_runs(self._of_task(task), self._map_seed):
                if dataset := self._draw(maps.dataset(run)):
                    section.groups.append(Group("Data", dataset, small=True))
                drawings = self._draw(maps.of(run, section.missing))
                if drawings:
                    title = f"{self.names[id(run)]}, {task}, seed {run.record.seed}"
                    # Where there are many, those are open that show a choice.
                    folded = variants > 6 and not member_names(run)
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
            "separated by |; an empty cell means that it has no such setting. A section that some "
            "variants lack is one row, beside those of its settings that differ. Seeds and names "
            "of runs are left out.",
            tables=list(differences(named)) if len(self.runs) > 1 else [],
        )
        section.folded = sum(len(table.rows) for table in section.tables) > 40
        return section

    def _list(self) -> Section:
        table = run_table(self.runs, self.names)
        return Section("runs", "Runs", tables=[table], folded=len(self.runs) > 20)

    def _provenance(self) -> Section:
        section = Section(
            "provenance", "Provenance", "What made each run, on what, and when. Times are in UTC."
        )
        section.tables = list(provenance(self.runs, section.missing))
        return section

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


def _name(run: Run, *, with_study: bool) -> str:
    record = run.record
    return f"{record.study}/{record.variant}" if with_study and record.study else record.variant
