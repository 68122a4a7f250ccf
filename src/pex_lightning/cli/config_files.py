"""The `base:` key, with which a configuration file builds on others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from pex_lightning.errors import UserError


def expand_bases(args: Sequence[str]) -> list[str]:
    """Insert the files that a configuration names under `base:` before it in a command line.

    Paths under `base:` are relative to the file that names them; bases may have bases.

    Args:
        args: A command line with any number of `--config FILE`.

    Raises:
        UserError: A file is missing, is not valid YAML, or is its own base.
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
        for path in _with_bases(Path(name), ()):
            expanded += ["--config", str(path)]
    return expanded


def _with_bases(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if path.resolve() in above:
        raise UserError(f"{path}: under `base:` it names itself, directly or through others.")
    for base in _bases(path):
        yield from _with_bases(path.parent / base, (*above, path.resolve()))
    yield path


def _bases(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"--config {path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"--config {path} holds a {type(content).__name__}; expected settings such as "
            "`model:`, `data:` and `trainer:`."
        )
    bases = content.get("base") or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"--config {path}: `base` is {bases!r}, expected a list of files.")
    return bases
