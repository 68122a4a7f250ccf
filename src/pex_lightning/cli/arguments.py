"""Arguments of the commands that are not ``fit``."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from pex_lightning.errors import UserError


def command_parser(command: str, description: str) -> ArgumentParser:
    """A parser for ``pex-lightning COMMAND``; parse with :func:`parse`."""
    return ArgumentParser(
        prog=f"pex-lightning {command}", description=description, exit_on_error=False
    )


def parse(parser: ArgumentParser, argv: list[str]) -> Any:
    """Parse a command line.

    Raises:
        UserError: It is wrong.
    """
    try:
        return parser.parse_args(argv)
    except ArgumentError as error:
        raise UserError(f"{error} See {parser.prog} --help.") from error
