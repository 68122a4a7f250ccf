"""What made each run, by its `provenance.json`: code, data, seeds, machine, command line, times."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pex_lightning.callbacks.durations import duration
from pex_lightning.errors import in_one_line, shortened
from pex_lightning.report.reading import Run
from pex_lightning.report.tables import Cell, Table
from pex_lightning.studies.records import LARGEST_PROVENANCE, PROVENANCE

_LONGEST = 4_000
_MOST_ATTEMPTS = 6
_OF_A_RUN = (
    ("seed", "seed"),
    ("evaluation_seed", "seed of evaluations"),
    ("dataset", "dataset"),
    ("fingerprint", "fingerprint"),
    ("env", "environment"),
)
_OF_AN_ATTEMPT = (
    ("command", "command line"),
    ("folder", "in the folder"),
    ("resumed_from", "went on from"),
    ("started", "start"),
    ("ended", "end"),
    ("seconds", "time"),
    ("exit_code", "ended with"),
    ("error", "error"),
    ("version", "version"),
    ("git_revision", "git revision"),
    ("python", "Python"),
    ("packages", "packages"),
    ("host", "machine"),
    ("platform", "system"),
    ("cpu", "processor"),
    ("cores", "cores"),
    ("threads", "threads"),
    ("threads_chosen_by", "number of threads by"),
    ("waiting", "how threads wait"),
    ("threads_measured", "measured updates a second"),
    ("gpus", "GPUs"),
)


def provenance(runs: Sequence[Run], missing: list[str]) -> Iterator[Table]:
    """A folded table for each run.

    Args:
        runs: The runs.
        missing: Gets a sentence for each reason why runs have no table.
    """
    without = []
    for run in runs:
        path = run.folder / PROVENANCE
        try:
            yield _table(run.folder.name, _read(path))
        except FileNotFoundError:
            without.append(run.folder.name)
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            reason = shortened(in_one_line(error))
            missing.append(f"The {PROVENANCE} of {run.folder.name} is damaged ({reason}).")
    if without:
        missing.append(
            f"Without a {PROVENANCE}, as runs from Python and of older versions are: "
            f"{', '.join(without)}."
        )


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = json.loads(file.read(LARGEST_PROVENANCE))
    if not isinstance(content, dict) or not isinstance(content.get("attempts"), list):
        raise ValueError("it has no list of attempts")
    return content


def _table(name: str, content: Mapping[str, Any]) -> Table:
    every = [attempt for attempt in content["attempts"] if isinstance(attempt, dict)]
    shown = list(enumerate(every, 1))
    known = [(label, _text(key, content.get(key))) for key, label in _OF_A_RUN]
    caption = ", ".join(f"{label} {text}" for label, text in known if text)
    if len(shown) > _MOST_ATTEMPTS:
        shown = [shown[0], *shown[1 - _MOST_ATTEMPTS :]]
        caption += f". The first and the last {_MOST_ATTEMPTS - 1} of {len(every)} attempts"
    head = ("entry", *(f"attempt {number}" for number, _ in shown))
    rows = [
        (Cell(label, label), *(Cell(_text(key, attempt.get(key))) for _, attempt in shown))
        for key, label in _OF_AN_ATTEMPT
    ]
    told = tuple(row for row in rows if any(cell.text for cell in row[1:]))
    return Table(name, head, told, f"{caption}." if caption else "", folded=True)


def _text(key: str, value: object) -> str:
    if key == "exit_code" and value is None:
        return "not noted: it was killed, or goes on"
    if value is None or value == []:
        return ""
    if key == "command" and isinstance(value, list):
        return shortened(shlex.join(map(str, value)), _LONGEST)
    if key == "seconds" and isinstance(value, int | float):
        return duration(float(value))
    if isinstance(value, dict):
        value = ", ".join(f"{name} {version}" for name, version in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    return shortened(str(value), _LONGEST)
