"""What the runs of a study say together, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from pex_lightning.studies.caveats import caveats
from pex_lightning.studies.compared import Compared, compare
from pex_lightning.studies.markdown import NOTHING, estimate, number, table, text
from pex_lightning.studies.outcomes import Outcome, Unit
from pex_lightning.studies.records import FoundRun
from pex_lightning.studies.statistics import (
    REPLICATIONS,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

Measure = Callable[[Outcome], float]
_MEASURES: dict[str, Measure] = {
    "offline": lambda o: o.offline,
    "lowest online": lambda o: o.lowest,
    "change": lambda o: o.change,
    "final": lambda o: o.final,
    "area": lambda o: o.area,
    "regret": lambda o: o.regret,
}
_UNITS: dict[Unit, str] = {
    "score": "D4RL's normalised score; on AntMaze and PointMaze the success rate in percent",
    "success": "the success rate in percent",
    "return": "the undiscounted return of an episode",
}
_LEVELS = (25.0, 50.0, 75.0, 90.0)
_MEANING = f"""\
Each cell is the interquartile mean over runs (the mean without the lowest and the highest quarter)
and, in brackets, a 95 % interval from {REPLICATIONS:,} bootstrap replications over seeds. One run
is one measurement, however many episodes it was evaluated with.

- **offline**: last score of the offline stage.
- **lowest online**: lowest score of the online stage, the one at the hand-over included.
- **change**: lowest online minus offline; below zero, the run lost what it started from.
- **final**: last score; of the offline stage where there is no other.
- **area**: mean score over environment steps, from the hand-over to the last evaluation.
- **regret**: mean gap, over the same steps, between the score and the best score that any of these
  runs reached on the task. It depends on which runs are compared.
- {NOTHING}: the runs do not have this number, such as an area where no stage was online."""


def summary(
    runs: Sequence[FoundRun],
    frame: pd.DataFrame | None = None,
    *,
    threshold: float | None = None,
    reference: str | None = None,
) -> str:
    """Sum up runs for a reader, as Markdown.

    Finished runs are counted; the others are listed with the reason.

    Args:
        runs: Runs of a study, or of several.
        frame: Their metrics as `table.collect` gives them; without it they are read here.
        threshold: A score, in its unit: how many environment steps each variant took to reach it.
        reference: Variant that the others are compared with; by default, and where no run of it is
            finished, the first.

    Raises:
        UserError: Two folders hold the same run.
    """
    compared = compare(runs, frame, threshold)
    studies = ", ".join(dict.fromkeys(text(run.record.study) for run in runs if run.record.study))
    parts = [f"# Results{' of ' if studies else ''}{studies}", _counts(runs, compared)]
    if compared.left_out:
        parts += ["## Runs that are not counted", _left_out(compared)]
    if compared.variants:
        parts += ["## Data and versions", _data(compared), _versions(compared)]
        known = [f"- {sentence}" for sentence in caveats(compared)]
        parts += ["## What to keep in mind", "\n".join(known)] if known else []
        meaning = "\n".join([_MEANING, *_threshold_meaning(threshold)])
        parts += ["## What the columns mean", meaning]
        for task in compared.tasks:
            parts += _section(compared, (task,), compared.units[task], threshold)
        if len(compared.tasks) > 1:
            parts += _all_tasks(compared, threshold)
        parts += _improvement(compared, reference)
    return "\n\n".join(parts) + "\n"


def _counts(runs: Sequence[FoundRun], compared: Compared) -> str:
    counted = len(runs) - len(compared.left_out)
    if not counted:
        given = _plural(len(runs), "run")
        return f"None of {given} is finished and has an evaluation, so nothing is compared."
    return (
        f"{_plural(counted, 'run')} of {len(runs)} counted: "
        f"{_plural(len(compared.variants), 'variant')} on {_plural(len(compared.tasks), 'task')}."
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _left_out(compared: Compared) -> str:
    """The runs that are not counted; of those that wait, how many they are."""
    begun = [run for run in compared.left_out if run.state != "waiting"]
    waiting = len(compared.left_out) - len(begun)
    parts = []
    if begun:
        rows = [[text(run.folder.name), run.state, text(run.reason)] for run in begun]
        parts.append(table(["run", "state", "reason"], rows, left=3))
    if waiting:
        parts.append(f"{_plural(waiting, 'run')} not begun.")
    return "\n\n".join(parts)


def _data(compared: Compared) -> str:
    columns = ["task", "dataset", "fingerprint"]
    rows = compared.frame[columns].drop_duplicates().itertuples(index=False)
    of_tasks = [
        [text(row.task), text(row.dataset), text(row.fingerprint), compared.units[row.task]]
        for row in rows
        if row.task in compared.units
    ]
    return table([*columns, "unit"], of_tasks, left=4)


def _versions(compared: Compared) -> str:
    rows = compared.frame[["version", "git_revision"]].drop_duplicates().itertuples(index=False)
    named = [
        (text(row.version) or "an unknown version")
        + (f" (revision {text(row.git_revision)})" if row.git_revision else "")
        for row in rows
    ]
    made = f"Made with pex-lightning {', '.join(named)}."
    if "score" in compared.units.values():
        made += (
            "\nScores on data that are not D4RL's own are normalised in the same way, but are not "
            "D4RL's scores."
        )
    return made


def _threshold_meaning(threshold: float | None) -> Iterator[str]:
    if threshold is not None:
        yield (
            f"- **steps to {number(threshold, None)}**: environment steps at the first online "
            "evaluation at or above this score: the median\n  over the runs of a task, in which a "
            "run that never reached it counts as infinite, and how many\n  runs reached it. "
            f"{NOTHING} if the median is infinite."
        )


def _section(
    compared: Compared, tasks: tuple[str, ...], unit: Unit, threshold: float | None
) -> Iterator[str]:
    """The tables of one task, or of all of them."""
    one = len(tasks) == 1
    variants = compared.variants if one else compared.complete()
    yield f"## {text(tasks[0])}" if one else "## All tasks together"
    if one:
        yield f"A score is {_UNITS[unit]}."
    header = ["variant", "runs", *_MEASURES]
    if threshold is not None:
        header.append(f"steps to {number(threshold, None)}")
    rows = [
        [text(variant), *_row(compared, variant, tasks, unit, threshold)]
        for variant in variants
        if any(compared.of(variant, task) for task in tasks)
    ]
    yield table(header, rows)
    yield from _profile(compared, variants, tasks, unit)


def _row(
    compared: Compared, variant: str, tasks: tuple[str, ...], unit: Unit, threshold: float | None
) -> Iterator[str]:
    runs = [outcome for task in tasks for outcome in compared.of(variant, task)]
    yield str(len(runs))
    for measure in _MEASURES.values():
        scores = compared.values(variant, tasks, measure)
        found = stratified_bootstrap(scores)
        part = f" ({found.runs} of {len(runs)} runs)" if 0 < found.runs < len(runs) else ""
        yield estimate(found, _digits(unit)) + part
    if threshold is not None:
        steps = [run.env_steps_to_threshold for run in runs]
        steps = [count for count in steps if not math.isnan(count)]
        # Steps of different tasks have no common middle.
        median = float(np.median(steps)) if steps and len(tasks) == 1 else math.inf
        reached = f" ({sum(map(math.isfinite, steps))} of {len(steps)})" if steps else ""
        yield number(median, 0) + reached


def _digits(unit: Unit) -> int | None:
    return None if unit == "return" else 1


def _profile(
    compared: Compared, variants: Sequence[str], tasks: tuple[str, ...], unit: Unit
) -> Iterator[str]:
    scores = {v: compared.values(v, tasks, lambda o: o.final) for v in variants}
    scores = {v: of for v, of in scores.items() if any(task.size for task in of)}
    everything = [value for of in scores.values() for task in of for value in task]
    if len(everything) < 2:
        return
    levels = np.array(_LEVELS)
    if unit == "return":
        lowest, highest = min(everything), max(everything)
        levels = np.linspace(lowest, highest, 5)[:-1]
    rows = []
    for variant, of in scores.items():
        profile = performance_profile(of, levels)
        cells = zip(profile.share, profile.low, profile.high, strict=True)
        rows.append([text(variant), *(_share(*cell) for cell in cells)])
    yield "Share of runs, in percent, whose final score is above a level:"
    yield table(["variant", *(f"> {number(level, None)}" for level in levels)], rows)


def _share(value: float, low: float, high: float) -> str:
    written = f"{100 * value:.0f}"
    return written if math.isnan(low) else f"{written} [{100 * low:.0f}, {100 * high:.0f}]"


def _all_tasks(compared: Compared, threshold: float | None) -> Iterator[str]:
    unit = compared.unit()
    if unit is not None and compared.complete():
        yield from _section(compared, compared.tasks, unit, threshold)
        return
    yield "## All tasks together"
    if unit is None:
        yield (
            "Scores are not averaged over tasks: they are returns, whose sizes differ between "
            "tasks, or not the same kind of score on all of them."
        )
    else:
        yield "No variant has a finished run on every task, so nothing is averaged over tasks."


def _improvement(compared: Compared, named: str | None) -> Iterator[str]:
    """How probably each variant is better than the reference."""
    reference = named if named in compared.variants else compared.variants[0]
    measures = {"final": _MEASURES["final"], "area": _MEASURES["area"]}
    rows = []
    for variant in compared.variants:
        if variant == reference:
            continue
        shared = [
            t for t in compared.tasks if compared.of(variant, t) and compared.of(reference, t)
        ]
        found = [
            probability_of_improvement(
                compared.values(variant, shared, measure),
                compared.values(reference, shared, measure),
            )
            for measure in measures.values()
        ]
        rows.append([text(variant), str(len(shared)), *(estimate(e, 2) for e in found)])
    if rows:
        yield f"## Probability of being better than {text(reference)}"
        yield (
            f"How probably a run of the variant has a higher number than a run of {text(reference)}"
            " on the same task,\nequal ones counting half; the mean over the tasks that both have. "
            "0.5 is no difference."
        )
        if named not in (None, reference):
            yield f"No run of {text(str(named))} is finished, so {text(reference)} is in its place."
        yield table(["variant", "tasks", *measures], rows)
