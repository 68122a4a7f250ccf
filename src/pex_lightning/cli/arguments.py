"""Argument parsing for all commands but `fit`."""

from __future__ import annotations

import difflib
import re
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from pex_lightning.cli.wrong_values import told_in_a_sentence
from pex_lightning.cli.yaml_limits import limit_values, with_integers
from pex_lightning.errors import UserError, shortened


def command_parser(command: str, description: str) -> ArgumentParser:
    """Make a parser for `pex-lightning COMMAND`, to be used with `parse`."""
    return ArgumentParser(
        prog=f"pex-lightning {command}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_optional(
    parser: ArgumentParser, flag: str, kind: Any, description: str, **options: Any
) -> None:
    """Add an argument that is None where the user leaves it out.

    Args:
        parser: Where to add it.
        flag: Such as `--out`.
        kind: The type of its value.
        description: Shown by `--help`.
        options: As for `add_argument`.
    """
    parser.add_argument(flag, type=kind | None, default=None, help=description, **options)


def parse(parser: ArgumentParser, argv: list[str]) -> Any:
    """Parse a command line.

    Raises:
        UserError: An argument is wrong.
    """
    limit_values(parser.parser_mode)
    try:
        return parser.parse_args(with_integers(argv))
    except ArgumentError as error:
        text = _explained(str(error), parser)
        end = "" if text.endswith((".", "?")) else "."
        raise UserError(f"{text}{end} See {parser.prog} --help.") from error


def _explained(text: str, parser: ArgumentParser) -> str:
    return _unknown_flag(text, parser) or told_in_a_sentence(text) or shortened(text, 1_000)


def _unknown_flag(text: str, parser: ArgumentParser) -> str | None:
    """The message about a flag that does not exist, with those it may stand for; else None."""
    match = re.search(r"[Uu]nrecognized arguments: (--[^\s=]+)", text)
    if match is None:
        return None
    flag = match[1]
    known = dict.fromkeys(re.findall(r"--[\w.]+", parser.format_usage()))
    close = [name for name in known if name.startswith(flag)]
    close = close or [name for name in known if name.endswith(f".{flag[2:]}")]
    close = close or difflib.get_close_matches(flag, known, n=2, cutoff=0.75)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"there is no flag {shortened(flag)}.{meant}"
