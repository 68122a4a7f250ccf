"""Figures of what acts: members' shares, the entropy of the choice, and the values behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from pex_lightning.report.drawing import Floats, Series, Sketch, series_of, sketch
from pex_lightning.report.reading import Run
from pex_lightning.report.results import number

_SHARE = re.compile(r"train/(.+)_policy_share")
_ENTROPY = "train/choice_entropy"
_Q_DATA, _Q_RANDOM = "train/q_data", "train/q_random"


def member_names(run: Run) -> tuple[str, ...]:
    """Members between which a run chose, the learner last; none if there was no choice."""
    stage = run.stages.get("online")
    found = [m[1] for column in (stage.columns if stage else ()) if (m := _SHARE.fullmatch(column))]
    # A damaged file may have names in which a picture cannot be written.
    found = [name for name in found if name.isprintable()]
    return tuple(found) if len(found) > 1 else ()


def shares(runs: Mapping[str, Sequence[Run]], task: str) -> Iterator[Sketch]:
    """How often each member acted, a figure for each variant.

    Args:
        runs: Runs on the task by their variants.
        task: The task.
    """
    for variant, of_variant in runs.items():
        chose = [run for run in of_variant if member_names(run)]
        if not chose:
            continue
        names = tuple(dict.fromkeys(name for run in chose for name in member_names(run)))
        begun = sketch(
            f"{task}-shares-{variant}",
            f"{variant}: who acted",
            "Share of the steps since the last report in which each member acted"
            f"{_seeds(len(chose))}.",
            "environment steps",
            "share of steps",
            (4, 2.4),
        )
        for name, look in series_of(names).items():
            curves = [
                run.stages["online"].points("env_steps", f"train/{name}_policy_share")
                for run in chose
            ]
            _add(begun, look, curves, lambda x, v: f"{100 * v:.0f} % at {x:,.0f} steps")
        begun.axes.set_ylim(-0.03, 1.03)
        yield begun


def values(runs: Mapping[str, Sequence[Run]], task: str) -> Iterator[Sketch]:
    """What the critic thinks of the data's, of random and of members' actions, by variants.

    Args:
        runs: Runs on the task by their variants.
        task: The task.
    """
    for variant, of_variant in runs.items():
        online = [
            stage
            for run in of_variant
            if (stage := run.stages.get("online")) and _Q_DATA in stage.columns
        ]
        columns = {"data": _Q_DATA, "random actions": _Q_RANDOM}
        names = dict.fromkeys(name for run in of_variant for name in member_names(run))
        columns |= {name: f"train/q/{name}" for name in names}
        begun = sketch(
            f"{task}-values-{variant}",
            f"{variant}: what Q thinks",
            "Smallest Q, mean over a batch, of the batch's own actions (data), of actions drawn "
            f"uniformly from the action space, and of members' actions{_seeds(len(online))}.",
            "environment steps",
            "Q",
            (4, 2.4),
        )
        for name, look in series_of(list(columns)).items():
            curves = [stage.points("env_steps", columns[name]) for stage in online]
            _add(begun, look, curves, lambda x, v: f"{number(v)} at {x:,.0f} steps")
        if begun.series:
            yield begun


def entropy(
    runs: Mapping[str, Sequence[Run]], task: str, look: Mapping[str, Series]
) -> Sketch | None:
    """The entropy of the choice, a curve for each variant; None where nothing was chosen."""
    begun = sketch(
        f"{task}-choice-entropy",
        "Entropy of the choice",
        "Between members: mean over the choices made since the last report and over seeds; the "
        "area is between the lowest and the highest seed. 0 means that the choice is certain; "
        f"log M, {math.log(2):.2f} for two members, that it is a coin.",
        "environment steps",
        "entropy in nats",
        (4, 2.4),
    )
    for variant, of_variant in runs.items():
        curves = [
            run.stages["online"].points("env_steps", _ENTROPY)
            for run in of_variant
            if member_names(run)
        ]
        _add(begun, look[variant], curves, lambda x, v: f"{number(v)} nats at {x:,.0f} steps")
    return begun if begun.series else None


def _add(
    begun: Sketch,
    look: Series,
    curves: Sequence[tuple[Floats, Floats]],
    told: Callable[[float, float], str],
) -> None:
    """Add the mean over seeds, between its lowest and its highest."""
    curves = [(x, y) for x, y in curves if len(x)]
    if not curves:
        return
    x = np.unique(np.concatenate([at for at, _ in curves]))
    if len(x) > 300:
        x = x[np.linspace(0, len(x) - 1, 300).astype(np.int64)]
    values = np.array([np.interp(x, at, y, left=math.nan, right=math.nan) for at, y in curves])
    mean = np.nanmean(values, axis=0)
    begun.line(
        look,
        x,
        mean,
        lambda n: f"{look.label}: {told(x[n], mean[n])}",
        (np.nanmin(values, axis=0), np.nanmax(values, axis=0)) if len(curves) > 1 else None,
    )


def _seeds(count: int) -> str:
    several = f", mean over {count} seeds; the area is between the lowest and the highest"
    return several if count > 1 else ""
