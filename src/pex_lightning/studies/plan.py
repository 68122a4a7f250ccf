"""The plan of a study: its runs, what is left of them, and which offline stages they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pex_lightning.callbacks.status import STATUS
from pex_lightning.errors import UserError, shortened
from pex_lightning.studies.records import RECORD, RunRecord, read_record
from pex_lightning.studies.settings import StudySettings

ALL_FAILED = "failed"


@dataclass(frozen=True)
class RunShape:
    """What is known of a run before it starts, from its configuration.

    Attributes:
        stage: Tells the offline stage that it begins with from others of the same seed; None if it
            has none.
        offline_steps: Gradient steps of the offline stage.
        online_steps: Gradient steps of the online stage.
        offline_evaluations: Evaluations offline.
        online_evaluations: Evaluations online.
        episodes: Episodes of one evaluation.
        processes: Processes that it keeps busy.
        short_run: Arguments of `fit` with which a short run goes from its start as this one does
            later: with compiled updates, and with steps of the environment.
    """

    stage: str | None
    offline_steps: int
    online_steps: int
    offline_evaluations: int
    online_evaluations: int
    episodes: int
    processes: int
    short_run: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """A run and its folder.

    Attributes:
        record: What it is, and how far it has come.
        root: Folder of all runs.
        shape: What its configuration says.
    """

    record: RunRecord
    root: Path
    shape: RunShape

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return self.root / self.record.study / self.record.name

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder / "log.txt"

    @property
    def command(self) -> list[str]:
        """The arguments of `pex-lightning` that start it, or go on with it."""
        return self.at(self.folder)

    def at(self, folder: Path) -> list[str]:
        """The same for the folder as another machine or another working folder sees it."""
        root = folder.parents[1]
        where = [f"--run.root={root}", f"--run.name={self.record.study}/{self.record.name}"]
        return ["fit", *self.record.arguments, *where, "--ckpt_path=last"]

    @property
    def shared_stage(self) -> tuple[str, int] | None:
        """The same for all runs that begin with the same offline stage."""
        stage = self.shape.stage
        return None if stage is None else (stage, self.record.seed)

    @property
    def has_shared_stage(self) -> bool:
        """Whether its offline stage is finished."""
        return self.record.state == "finished" or (self.folder / "online" / STATUS).exists()


def plan(settings: StudySettings, shapes: Mapping[tuple[str, str], RunShape]) -> list[PlannedRun]:
    """All runs of a study, with what is known of them from an earlier start of it.

    Args:
        settings: The study.
        shapes: What the configuration of each variant on each task says, by (variant, task).

    Raises:
        UserError: A run was made with other settings than the study has now, or its record is
            damaged.
    """
    root = Path(settings.root)
    runs = []
    for record in settings.runs():
        run = PlannedRun(record, root, shapes[record.variant, record.task])
        try:
            earlier = read_record(run.folder)
        except FileNotFoundError:
            runs.append(run)
            continue
        _check_same(run, earlier)
        runs.append(replace(run, record=replace(earlier, arguments=record.arguments)))
    return runs


def to_do(runs: Iterable[PlannedRun], retry: str | list[str] | None) -> list[PlannedRun]:
    """The runs that are to be started: all that are left, or those that are named.

    Raises:
        UserError: A name is not of a failed run.
    """
    runs = list(runs)
    failed = [run for run in runs if run.record.state == "failed"]
    if retry is None:
        return [run for run in runs if run.record.state not in ("finished", "failed")]
    if retry == ALL_FAILED:
        return failed
    names = [retry] if isinstance(retry, str) else retry
    by_name = {run.record.name: run for run in failed}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise UserError(f"--study.retry {name}: no failed run is called so; failed: {known}.")
    return [by_name[name] for name in names]


def _check_same(run: PlannedRun, earlier: RunRecord) -> None:
    """Refuse to mix runs of different settings; a run that failed may be tried with others."""
    if earlier.state == "failed" or earlier.arguments == run.record.arguments:
        return
    before, now = set(earlier.arguments), set(run.record.arguments)
    changes = [*(f"without {a}" for a in before - now), *(f"with {a}" for a in now - before)]
    raise UserError(
        f"{run.folder / RECORD}: this run was made with other settings; now it would run "
        f"{shortened(', '.join(sorted(changes)) or 'with its settings in another order')}. Choose "
        "another --study.name, or remove the folder to run it anew."
    )
