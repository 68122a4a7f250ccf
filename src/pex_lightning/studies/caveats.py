"""What a reader of a comparison has to know before trusting its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from pex_lightning.studies.compared import Compared
from pex_lightning.studies.markdown import text

FEW_SEEDS = 5


def caveats(compared: Compared) -> Iterator[str]:
    """Sentences on few seeds, runs that are missing, and runs that are not alike.

    Args:
        compared: Runs, at least one of them finished.
    """
    yield from _mixed_data(compared)
    yield from _mixed_versions(compared)
    yield from _different_ends(compared)
    yield from _different_evaluations(compared)
    yield from _seeds(compared)
    yield from _missing(compared)


def _seeds(compared: Compared) -> Iterator[str]:
    counts = sorted({len(of) for of in compared.found.values()})
    if counts[0] == 1:
        where = "There is one seed" if counts[-1] == 1 else "Where a variant has one seed on a task"
        yield (
            f"{where}{', so' if counts[-1] == 1 else ','} no interval is given: how much seeds "
            "differ is not known, and a difference between variants may be chance."
        )
    few = [count for count in counts if 1 < count < FEW_SEEDS]
    if few:
        yield (
            f"Intervals of {' and '.join(map(str, few))} seeds are rough, and rather too narrow: "
            f"take at least {FEW_SEEDS} seeds before believing a small difference."
        )
    for task in compared.tasks:
        of_task = {v: len(compared.of(v, task)) for v in compared.variants if compared.of(v, task)}
        if len(set(of_task.values())) > 1:
            listed = ", ".join(f"{text(v)} {count}" for v, count in of_task.items())
            yield f"Variants have different numbers of runs on {text(task)}: {listed}."


def _missing(compared: Compared) -> Iterator[str]:
    for variant in compared.variants:
        missing = [text(task) for task in compared.tasks if not compared.of(variant, task)]
        if missing:
            yield (
                f"{text(variant)} has no finished run on {', '.join(missing)}: it is left out "
                "where tasks are taken together."
            )
        counts = {len(compared.of(variant, task)) for task in compared.tasks} - {0}
        if len(counts) > 1:
            yield (
                f"{text(variant)} has from {min(counts)} to {max(counts)} runs on a task: over all "
                "tasks every run counts the same, so that tasks with fewer runs count for less."
            )


def _mixed_data(compared: Compared) -> Iterator[str]:
    for task, rows in compared.frame.groupby("task", sort=False):
        datasets = _distinct(rows, "dataset", "fingerprint")
        if len(datasets) > 1:
            listed = "; ".join(f"{text(name)} ({text(mark)})" for name, mark in datasets)
            yield (
                f"**Runs on {text(str(task))} have different datasets**: {listed}. Their scores "
                "say something about the datasets too."
            )


def _mixed_versions(compared: Compared) -> Iterator[str]:
    versions = [version for (version,) in _distinct(compared.frame, "version")]
    if len(versions) > 1:
        listed = ", ".join(text(version) or "unknown" for version in versions)
        yield f"**Runs were made with different versions of this package**: {listed}."
    revisions = [revision for (revision,) in _distinct(compared.frame, "git_revision")]
    if len(revisions) > 1:
        listed = ", ".join(text(revision) or "none known" for revision in revisions)
        yield f"**Runs were made from different revisions of the code**: {listed}."


def _different_ends(compared: Compared) -> Iterator[str]:
    for (variant, task), of in compared.found.items():
        offline_alone = sum(math.isnan(outcome.area) for outcome in of)
        if 0 < offline_alone < len(of):
            yield (
                f"**{offline_alone} of {len(of)} runs of {text(variant)} on {text(task)} have no "
                "usable evaluation of an online stage**: their final scores are of the offline "
                "stage, or missing."
            )
        ends = {outcome.last_step for outcome in of}
        if len(ends) > 1:
            yield (
                f"**Runs of {text(variant)} on {text(task)} ended after different numbers of "
                f"updates**: from {min(ends):,.0f} to {max(ends):,.0f}."
            )
    for task in compared.tasks:
        online = [
            outcome.last_env_steps
            for variant in compared.variants
            for outcome in compared.of(variant, task)
            if not math.isnan(outcome.lowest)
        ]
        if len(set(online)) > 1:
            yield (
                f"Online stages on {text(task)} end after {min(online):,.0f} to "
                f"{max(online):,.0f} environment steps, so areas and regrets cover different "
                "stretches."
            )


def _different_evaluations(compared: Compared) -> Iterator[str]:
    for task in compared.tasks:
        counts = {
            variant: sorted({o.online_evaluations for o in compared.of(variant, task)} - {0})
            for variant in compared.variants
        }
        if len({count for of in counts.values() for count in of}) > 1:
            listed = ", ".join(
                f"{text(v)} {' or '.join(map(str, of))}" for v, of in counts.items() if of
            )
            yield (
                f"Online stages on {text(task)} were evaluated different numbers of times "
                f"({listed}): the more evaluations, the lower is the lowest of them, and the "
                "earlier a threshold is seen to be reached."
            )


def _distinct(rows: pd.DataFrame, *columns: str) -> list[tuple[str, ...]]:
    distinct = rows[list(columns)].drop_duplicates()
    return [tuple(map(str, row)) for row in distinct.itertuples(index=False)]
