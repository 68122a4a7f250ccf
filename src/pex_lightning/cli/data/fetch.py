"""`pex-lightning data fetch`: download published D4RL datasets."""

from __future__ import annotations

import sys

from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.d4rl.fetch import DEFAULT_MIRRORS, fetch_task
from pex_lightning.d4rl.tasks import find_task
from pex_lightning.recording.recipes import RECIPES


def run(argv: list[str]) -> int:
    """Download missing files and print the path of each file on a line.

    Raises:
        UserError: There is no such task, or its dataset cannot be fetched.
    """
    parser = command_parser(
        "data fetch",
        "Download D4RL datasets by the names of their tasks, resuming what was interrupted, and "
        "print where they are. One that is here already is checked and not downloaded again.",
    )
    parser.add_argument(
        "tasks", type=str, nargs="+", metavar="TASK", help="Such as antmaze-umaze-v2."
    )
    parser.add_argument(
        "--mirror",
        type=str,
        action="append",
        default=None,
        metavar="URL",
        help="Address or local folder below which the files lie; several are tried in their order. "
        "By default PEX_LIGHTNING_MIRRORS (separated by commas), else " + DEFAULT_MIRRORS[0],
    )
    add_optional(
        parser,
        "--cache_dir",
        str,
        "Where to keep them; by default D4RL_DATASET_DIR, else $XDG_CACHE_HOME/pex-lightning/d4rl.",
        metavar="FOLDER",
    )
    parser.add_argument("--force", action="store_true", help="Download again what is here already.")
    settings = parse(parser, argv)
    # All names are checked before the first download.
    for task in [find_task(name, RECIPES) for name in settings.tasks]:
        path = fetch_task(
            task, mirrors=settings.mirror, cache_dir=settings.cache_dir, force=settings.force
        )
        sys.stdout.write(f"{path}\n")
        sys.stdout.flush()
    return 0
