"""`pex-lightning data list`: list D4RL's tasks and the recipes for recording datasets."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from pex_lightning.cli.arguments import command_parser, parse
from pex_lightning.d4rl.tasks import TASKS, D4RLTask
from pex_lightning.errors import UserError
from pex_lightning.recording.recipes import RECIPES

_WIDTH = 100


def run(argv: list[str]) -> int:
    """Print the tasks and recipes whose names contain the filter.

    Raises:
        UserError: The arguments are wrong, or no name contains the filter.
    """
    settings = _parse(argv)
    wanted = settings.filter.lower()
    tasks = [task for name, task in TASKS.items() if wanted in name]
    recipes = [name for name in RECIPES if wanted in name]
    if not tasks and not recipes:
        raise UserError(
            f"data list: no task and no recipe has {settings.filter!r} in its name. Without it, "
            "pex-lightning data list shows them all."
        )
    if settings.json:
        sys.stdout.write(json.dumps(_as_json(tasks, recipes), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(tasks, recipes)) + "\n")
    return 0


def _lines(tasks: Sequence[D4RLTask], recipes: Sequence[str]) -> Iterator[str]:
    notes = list(dict.fromkeys(task.note for task in tasks if task.note))
    if tasks:
        yield "Tasks of D4RL   pex-lightning fit --config conf/d4rl/TASK.yaml"
        yield "                min and max are the raw returns that score 0 and 100"
        yield ""
        yield from _task_table(tasks, notes)
    for number, note in enumerate(notes, 1):
        yield from textwrap.wrap(
            note, _WIDTH, initial_indent=f"[{number}] ", subsequent_indent="    "
        )
    if recipes:
        if tasks:
            yield ""
        yield "Made on this machine, without a network   pex-lightning data make NAME"
        yield "                not D4RL's data: scores on them are no D4RL scores"
        yield ""
        rows = [(name, RECIPES[name].env_id, f"{RECIPES[name].rows:,}") for name in recipes]
        yield from _aligned([("name", "environment", "rows"), *rows], numbers_from=2)


def _task_table(tasks: Sequence[D4RLTask], notes: Sequence[str]) -> Iterator[str]:
    """Format one line per task, grouped under lines with common settings."""
    header = ("task", "environment", "steps", "min", "max", "")
    rows = [header, *(_row(task, notes) for task in tasks)]
    # All groups are aligned together.
    table = list(_aligned(rows, numbers_from=2))
    yield table[0]
    lines = iter(table[1:])
    for settings, block in groupby(tasks, key=_settings):
        yield f"- {settings}"
        for _ in block:
            yield next(lines)
    yield ""


def _settings(task: D4RLTask) -> str:
    return (
        f"reward_transform {task.reward_transform}, {task.episodes} episodes, expectile "
        f"{task.expectile:g}, beta {task.beta:g}, inv_temperature {task.inv_temperature:g}"
    )


def _row(task: D4RLTask, notes: Sequence[str]) -> tuple[str, ...]:
    kwargs = "".join(f" {name}={value}" for name, value in task.env_kwargs.items())
    return (
        task.id,
        f"{task.env}{kwargs}" if task.env else "none",
        str(task.max_episode_steps),
        f"{task.reference.minimum:.6g}",
        f"{task.reference.maximum:.6g}",
        f"[{notes.index(task.note) + 1}]" if task.note else "",
    )


def _aligned(rows: Iterable[tuple[str, ...]], numbers_from: int) -> Iterator[str]:
    """Align columns, from column `numbers_from` on to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.rjust(width) if i >= numbers_from else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _as_json(tasks: Sequence[D4RLTask], recipes: Sequence[str]) -> dict[str, Any]:
    return {
        "tasks": [{**asdict(task), "url": task.url} for task in tasks],
        "recipes": [
            {"name": name, "env": RECIPES[name].env_id, "rows": RECIPES[name].rows}
            for name in recipes
        ],
    }


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "data list",
        "The tasks of D4RL with what belongs to them (environment, steps of an episode, returns "
        "that score 0 and 100, reward transform, evaluation episodes, hyper-parameters), and the "
        "datasets that this package can record.",
    )
    parser.add_argument("filter", nargs="?", default="", help="Only names that hold this.")
    parser.add_argument(
        "--json", action="store_true", help="Everything as one JSON object, addresses included."
    )
    return parse(parser, argv)
