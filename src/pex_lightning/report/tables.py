"""Tables of a report: measures, runs, signs of failure, differences between configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pex_lightning.callbacks.durations import duration
from pex_lightning.errors import shortened
from pex_lightning.report.reading import Run
from pex_lightning.report.results import Results, interval, number
from pex_lightning.studies.outcomes import Outcome
from pex_lightning.studies.statistics import stratified_bootstrap

_LONGEST = 60
_OF_A_RUN = ("seed_everything", "run.name", "run.root", "run.overwrite")
"""Settings in which runs differ by what they are, not by what they do."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what it is sorted by, and a remark shown below."""

    text: str
    key: float | str = ""
    below: str = ""


@dataclass(frozen=True)
class Table:
    """A table, with a title unless that of its section is enough.

    The first cell of each row is the row's heading. A folded table is hidden until the reader asks
    for it by its title.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: bool = False


_MEASURES = (
    ("final", "final"),
    ("offline", "offline"),
    ("lowest", "lowest online"),
    ("change", "change after hand-over"),
    ("area", "mean over steps"),
    ("regret", "regret"),
)


def measures(results: Results, threshold: float | None) -> Iterator[Table]:
    """A table for each task, and one over all tasks where their scores can be compared."""
    caption = (
        "Interquartile mean over runs, with its 95 % stratified bootstrap interval below; "
        "no interval where a task has one seed."
    )
    if threshold is not None:
        caption += (
            " Steps are the median of the environment steps at the first evaluation at or above "
            "the threshold, with how many runs reached it below; a run that did not counts as never"
            "."
        )
    caption += (
        " 'Mean over steps' is the area under the online curve divided by its steps, 'regret' the "
        "best score of any run of the task minus that."
    )
    if len(results.tasks) > 1 and results.comparable:
        yield _measures(results, results.tasks, "all tasks", threshold, caption)
    for task in results.tasks:
        yield _measures(results, (task,), task, threshold, caption)


def _measures(
    results: Results, tasks: Sequence[str], title: str, threshold: float | None, caption: str
) -> Table:
    head = ["variant", "runs", *(heading for _, heading in _MEASURES)]
    if threshold is not None:
        head.append(f"steps to {threshold:g}")
    rows = []
    for variant in results.complete() if len(tasks) > 1 else results.variants:
        of_tasks = [results.outcomes.get((task, variant), ()) for task in tasks]
        count = sum(map(len, of_tasks))
        if not count:
            continue
        cells = [Cell(variant, variant), Cell(str(count), count)]
        cells += [_estimate(of_tasks, name) for name, _ in _MEASURES]
        if threshold is not None:
            cells.append(_steps(of_tasks))
        rows.append(tuple(cells))
    unit = results.unit(tasks[0])
    return Table(f"{title} ({unit})", tuple(head), tuple(rows), caption)


def _estimate(of_tasks: Sequence[Sequence[Outcome]], name: str) -> Cell:
    values = [[getattr(outcome, name) for outcome in outcomes] for outcomes in of_tasks]
    known = [[value for value in task if math.isfinite(value)] for task in values]
    if not any(known):
        return Cell("-", -math.inf)
    found = stratified_bootstrap(known)
    return Cell(number(found.value), found.value, interval(found).strip())


def _steps(of_tasks: Sequence[Sequence[Outcome]]) -> Cell:
    steps = [o.env_steps_to_threshold for outcomes in of_tasks for o in outcomes]
    steps = [value for value in steps if not math.isnan(value)]
    if not steps:
        return Cell("-", math.inf)
    reached = sum(math.isfinite(value) for value in steps)
    # The lower of two middle ones, since half a way to infinity is none.
    middle = sorted(steps)[(len(steps) - 1) // 2]
    return Cell(number(middle), middle, f"{reached} of {len(steps)}")


def run_table(runs: Sequence[Run], names: Mapping[int, str]) -> Table:
    """Every run, with its state and what could not be read of it."""
    rows = [
        (
            Cell(run.folder.name, run.folder.name),
            Cell(names[id(run)], names[id(run)]),
            Cell(run.record.task, run.record.task),
            Cell(str(run.record.seed), run.record.seed),
            Cell(run.record.state, run.record.state),
            Cell(duration(run.record.seconds) if run.record.seconds else "", run.record.seconds),
            Cell("; ".join(_remarks(run))),
        )
        for run in runs
    ]
    head = ("run", "variant", "task", "seed", "state", "time", "remarks")
    return Table("", head, tuple(rows))


def _remarks(run: Run) -> Iterator[str]:
    if run.record.reason:
        yield shortened(run.record.reason, 500)
    yield from run.notes


def signs(runs: Sequence[Run]) -> Table:
    """Signs of failure that runs have found in themselves."""
    rows = []
    for run in runs:
        for name, stage in run.stages.items():
            found = stage.diagnostics.get("signs", [])
            for sign in found if isinstance(found, list) else []:
                if not isinstance(sign, dict):
                    continue
                step = sign.get("step")
                step = step if isinstance(step, int) else -1
                rows.append(
                    (
                        Cell(run.folder.name, run.folder.name),
                        Cell(name, name),
                        Cell(_text(sign.get("sign")).replace("_", " "), _text(sign.get("sign"))),
                        Cell(f"{step:,}" if step >= 0 else "", step),
                        Cell(_text(sign.get("found"), 300)),
                    )
                )
    return Table("", ("run", "stage", "sign", "step", "found"), tuple(rows))


def differences(runs: Mapping[str, Sequence[Run]]) -> Iterator[Table]:
    """Settings in which variants differ, for runs with an online stage and for the others."""
    for stage, title in (("online", "Runs with an online stage"), ("offline", "Offline only")):
        settings = {
            name: [
                run.last.config
                for run in of_variant
                if run.last is not None and run.last.folder.name == stage and run.last.config
            ]
            for name, of_variant in runs.items()
        }
        settings = {name: found for name, found in settings.items() if found}
        rows = list(_differing(list(settings.values())))
        if rows:
            yield Table(title, ("setting", *settings), tuple(rows))


def _differing(variants: Sequence[Sequence[Mapping[str, object]]]) -> Iterator[tuple[Cell, ...]]:
    """A row for each setting that differs between variants, or within one.

    Where a variant has no part of a section, such as `offline.trainer`, the section is one row.
    """
    named = [{key for found in variant for key in found} for variant in variants]
    sections = [{part for key in keys for part in _sections(key)} for keys in named]
    seen = set()
    for key in dict.fromkeys(key for variant in variants for found in variant for key in found):
        values = [
            tuple(sorted({_text(found.get(key)) for found in variant if key in found}))
            for variant in variants
        ]
        there = {value for value in values if value}
        # A setting that is null does what its absence does.
        if key in _OF_A_RUN or {part for value in values for part in value} == {"null"}:
            continue
        if len(there) == 1 and all(len(value) == 1 for value in there) and all(values):
            continue
        whole = next(
            (part for part in _sections(key) if any(part not in s for s in sections)), None
        )
        if whole is not None and len(there) == 1:
            if whole not in seen:
                cells = ("set" if whole in s else "" for s in sections)
                yield Cell(f"{whole}.*", whole), *(Cell(text, text) for text in cells)
            seen.add(whole)
            continue
        texts = (shortened(" | ".join(value), 2 * _LONGEST) for value in values)
        yield Cell(key, key), *(Cell(text, text) for text in texts)


def _sections(key: str) -> list[str]:
    """The sections that a setting is in, the outermost first."""
    parts = key.split(".")[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _text(value: object, longest: int = _LONGEST) -> str:
    if isinstance(value, str):
        return shortened(value, longest)
    try:
        return shortened(json.dumps(value), longest)
    except (TypeError, ValueError, RecursionError):
        return shortened(str(type(value).__name__), longest)


def state_counts(runs: Sequence[Run]) -> str:
    """How many runs are in which state, in words."""
    states, counts = np.unique([run.record.state for run in runs], return_counts=True)
    return ", ".join(f"{count} {state}" for state, count in zip(states, counts, strict=True))
