"""This package's messages on the terminal, and fewer of the libraries'."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from tqdm import tqdm

_OURS = "pex_lightning"
_LIBRARIES = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")


class _AboveTheBar(logging.Handler):
    """Writes log lines to stderr, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def show_messages() -> None:
    """Show this package's messages, in the first process only."""
    ours = logging.getLogger(_OURS)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        ours.setLevel(logging.INFO)
        ours.handlers = [_AboveTheBar()]
    ours.propagate = False


def quiet_libraries() -> None:
    """Show only warnings of libraries, and of these none that concern developers."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    # On a GPU, torch's compiler tells of its own choices and of settings that change results.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\._inductor")
    # Lightning counts chunks here, this package counts gradient steps.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")


@contextlib.contextmanager
def as_on_the_command_line() -> Iterator[None]:
    """Show within this block what the command shows; handlers that the user has set stay."""
    ours = logging.getLogger(_OURS)
    libraries = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in libraries]
    before = ours.level, ours.handlers, ours.propagate
    with warnings.catch_warnings():
        quiet_libraries()
        if not ours.handlers:
            show_messages()
        try:
            yield
        finally:
            ours.level, ours.handlers, ours.propagate = before
            for logger, level in zip(libraries, levels, strict=True):
                logger.setLevel(level)
