"""Pieces of Markdown: tables whose columns are aligned, and texts that change nothing of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pex_lightning.errors import printable
from pex_lightning.studies.statistics import Estimate

NOTHING = "\N{EN DASH}"
_MARKS = re.compile(r"([\\`*\[\]|~])")


def text(content: str) -> str:
    """A text from a file, in one line, without meaning for Markdown or HTML."""
    line = printable(" ".join(content.split())).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKS.sub(r"\\\1", line)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table with padded cells; columns after the first `left` are aligned to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    ruler = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        + " |"
        for cells in (header, ruler, *rows)
    ]
    return "\n".join(lines)


def number(value: float, digits: int | None = 1) -> str:
    """A number with fixed decimals, or with four significant digits where `digits` is None."""
    if not math.isfinite(value):
        return NOTHING
    written = f"{value:,.4g}" if digits is None else f"{value:,.{digits}f}"
    return written.removeprefix("-") if float(written.replace(",", "")) == 0 else written


def estimate(found: Estimate, digits: int | None = 1) -> str:
    """An estimate with its interval, if it has one."""
    value = number(found.value, digits)
    if not found.has_interval:
        return value
    return f"{value} [{number(found.low, digits)}, {number(found.high, digits)}]"
