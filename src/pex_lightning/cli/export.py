"""`pex-lightning export`: writes the policy in a checkpoint as one file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from pex_lightning.cli.arguments import command_parser, parse
from pex_lightning.cli.checkpoint_arguments import add_checkpoint_arguments
from pex_lightning.cli.loading import loaded_policy
from pex_lightning.errors import check_range
from pex_lightning.export.policy_file import Format, export_policy


def export(argv: list[str]) -> int:
    """Export and print what the file holds as a JSON object in the last line of standard output.

    Raises:
        UserError: The arguments or the checkpoint are wrong, or the policy cannot be exported.
    """
    settings = _parse(argv)
    path = Path(settings.out).expanduser()
    metadata = export_policy(
        loaded_policy(settings), path, settings.format, overwrite=settings.overwrite
    )
    sys.stdout.write(json.dumps({"out": str(path), **metadata}) + "\n")
    return 0


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "export",
        "Write the policy in a checkpoint as one file that needs no pex-lightning: from "
        "observations to actions and who acted, with nothing left to chance.",
    )
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--format",
        type=str,
        required=True,
        help="torch_export (.pt2), onnx (.onnx) or torchscript (.pt).",
    )
    parser.add_argument("--out", type=str, required=True, help="The file.")
    parser.add_argument(
        "--overwrite", type=bool, default=False, help="Whether to replace the file."
    )
    settings = parse(parser, argv)
    known = get_args(Format)
    check_range("--format", settings.format, settings.format in known, ", ".join(known))
    return settings
