"""The `base:` key, with which a configuration file builds on others."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from pex_lightning.cli.yaml_limits import read_config
from pex_lightning.errors import UserError, shortened
from pex_lightning.shipped import close_to, shipped_config

MAX_FILES = 100

_log = logging.getLogger(__name__)


def expand_bases(args: Sequence[str]) -> list[str]:
    """Insert the files that a configuration names under `base:` before it in a command line.

    Paths under `base:` are relative to the file that names them; bases may have bases. A name such
    as `conf/antmaze.yaml` that is not there stands for the file that ships with the package.

    Args:
        args: A command line with any number of `--config FILE`.

    Raises:
        UserError: A file is missing, is not valid YAML, is beyond the limits of `read_config`, is
            its own base, or the bases are more than `MAX_FILES`.
    """
    expanded: list[str] = []
    arguments = iter(args)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            expanded.append(argument)
            continue
        name = value if equals else next(arguments, None)
        if name is None:
            raise UserError(f"{flag} needs a file, for example {flag} conf/pointmaze.yaml.")
        files = list(itertools.islice(_with_bases(_existing(name), ()), MAX_FILES + 1))
        if len(files) > MAX_FILES:
            raise _too_many(name)
        for path in files:
            expanded += ["--config", str(path)]
    return expanded


def _with_bases(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if len(above) > MAX_FILES:
        raise _too_many(str(above[0]))
    bases = _bases(path)
    if path.resolve() in above:
        raise UserError(f"{path}: under `base:` it names itself, directly or through others.")
    for base in bases:
        yield from _with_bases(_existing(base, path), (*above, path.resolve()))
    yield path


def _existing(name: str, named_by: Path | None = None) -> Path:
    """The file of a name, which is relative to the file that names it; else a shipped one."""
    path = Path(name) if named_by is None else named_by.parent / name
    try:
        if path.exists():
            return path
    except OSError:
        return path  # Reading it says what is wrong.
    shipped = shipped_config(name)
    if shipped is None:
        where = f"--config {shortened(name)}"
        if named_by is not None:
            where = f"--config {named_by}: {shortened(name)} under `base`"
        close = close_to(name)
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(
            f"{where}: there is no such file.{meant} pex-lightning conf list shows those that "
            "come with the package."
        )
    if named_by is None:
        _log.info("--config %s is the one that comes with pex-lightning", name)
    return shipped


def _too_many(name: str) -> UserError:
    return UserError(f"--config {name} builds on more than {MAX_FILES} files under `base:`.")


def _bases(path: Path) -> list[str]:
    content = read_config(path)
    if not isinstance(content, dict):
        raise UserError(
            f"--config {path} holds a {type(content).__name__}; expected settings such as "
            "`model:`, `data:` and `trainer:`."
        )
    bases = content.get("base") or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(
            f"--config {path}: `base` is {shortened(repr(bases))}, expected a list of files."
        )
    return bases
