"""The progress bar of what takes long before training begins."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(description: str, *, total: int | None, show: bool, **options: Any) -> tqdm[Any]:
    """A bar on stderr; where that is no terminal, a line a minute.

    Args:
        description: Stands before it.
        total: What it counts up to; None if that is not known.
        show: Whether it is shown at all.
        options: As for tqdm.
    """
    interval = 0.5 if sys.stderr.isatty() else 60.0
    return tqdm(
        total=total,
        desc=description,
        disable=not show,
        dynamic_ncols=True,
        mininterval=interval,
        # A slow start must not make a log wait longer than that.
        maxinterval=interval,
        **options,
    )
