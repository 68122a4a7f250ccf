"""`pex-lightning report`: one page about runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt

from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.errors import UserError
from pex_lightning.studies.records import find_runs


def report(argv: list[str]) -> int:
    """Write a report about runs, and say where it is.

    Raises:
        UserError: The arguments are wrong, or nothing can be written.
    """
    settings = _parse(argv)
    out = Path(settings.out).expanduser()
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected the name of a file that ends in .html.")
    found = find_runs([Path(path).expanduser() for path in settings.paths])
    figures = out.with_name(f"{out.stem}-figures")
    if settings.figures is not None:
        figures = Path(settings.figures).expanduser()
    # Imported late, since it takes seconds and mistakes above are answered at once.
    from pex_lightning.report.page import write_report  # noqa: PLC0415

    written = write_report(
        found, out, figures, threshold=settings.threshold, map_seed=settings.map_seed
    )
    runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
    sys.stdout.write(
        f"{written.page}: a report of {runs}; its {written.figures} figures as PNG and SVG are in "
        f"{written.folder}\n"
    )
    return 0


def _parse(argv: list[str]) -> Any:
    parser = command_parser("report", "Write one page about runs, with figures, that works alone.")
    parser.add_argument(
        "paths",
        type=str,
        nargs="+",
        metavar="RUN|STUDY",
        help="Folders of runs, or of studies, which hold runs.",
    )
    parser.add_argument("--out", type=str, default="report.html", help="The page.")
    add_optional(
        parser,
        "--figures",
        str,
        "Folder for the figures as PNG and SVG; by default <page>-figures beside the page.",
    )
    add_optional(
        parser, "--threshold", float, "A score: how many environment steps until it is reached."
    )
    add_optional(
        parser,
        "--map_seed",
        NonNegativeInt,
        "Seed of the run of each variant that maps are drawn of; by default the first.",
    )
    return parse(parser, argv)
