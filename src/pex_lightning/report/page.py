"""The page of a report, and its template."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.report.drawing import Drawing, Painter
from pex_lightning.report.reading import read_runs
from pex_lightning.report.sections import Report, Section
from pex_lightning.studies.records import FoundRun


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
    report = Report(read_runs(found), Painter(figures), threshold, map_seed)
    sections = list(report.sections())
    text = _render(report, sections, page, figures)
    with written_aside(page) as aside:
        # Names of folders, and texts of damaged files, may be none of UTF-8.
        aside.write_text(text, encoding="utf-8", errors="replace")
    return Written(page, sum(1 for _ in _drawings(sections)), figures)


def _drawings(sections: Sequence[Section]) -> Iterator[Drawing]:
    for section in sections:
        for group in section.groups:
            yield from group.drawings


def _render(report: Report, sections: Sequence[Section], page: Path, figures: Path) -> str:
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
    )
