"""Configuration files: the `base:` key, by which one builds on others, and merging them."""

from __future__ import annotations

import itertools
import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pex_lightning.cli.yaml_limits import read_config
from pex_lightning.errors import UserError, shortened
from pex_lightning.shipped import close_to, shipped_config

MAX_FILES = 100
_OF_FIT = ("model", "data", "trainer", "offline", "evaluation", "run")
"""Groups of settings of `fit`."""

_log = logging.getLogger(__name__)


def expand_bases(args: Sequence[str], command: Literal["fit", "study"] = "fit") -> list[str]:
    """Insert the files that a configuration names under `base:` before it in a command line.

    Paths under `base:` are relative to the file that names them; bases may have bases. A name such
    as `conf/antmaze.yaml` that is not there stands for the file that ships with the package.

    Args:
        args: A command line with any number of `--config FILE`.
        command: Whose command line it is.

    Raises:
        UserError: A file is missing, is not valid YAML, is beyond the limits of `read_config`, is
            its own base, is of the other command, or the bases are more than `MAX_FILES`.
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
        path = _existing(name)
        _check_command(name, path, command)
        files = list(itertools.islice(_with_bases(path, ()), MAX_FILES + 1))
        if len(files) > MAX_FILES:
            raise _too_many(name)
        for path in files:
            expanded += ["--config", str(path)]
    return expanded


def _check_command(name: str, path: Path, command: str) -> None:
    """Refuse a file that is meant for the other command.

    Args:
        name: As the user gave it.
        path: The file.
        command: `fit` or `study`.
    """
    content = read_config(path)
    if not isinstance(content, dict):
        return
    of_study = "study" in content
    groups = [group for group in _OF_FIT if group in content]
    if command == "fit" and of_study:
        raise UserError(
            f"--config {name} is the file of a study. Run it with pex-lightning study "
            f"--config {shlex.quote(name)}, or give the configuration of one run."
        )
    if command == "study" and groups and not of_study:
        raise UserError(
            f"--config {name} is the configuration of a run: it has `{groups[0]}:`, and no "
            f"`study:`. Train with pex-lightning fit --config {shlex.quote(name)}, or name it "
            "under a task of a study, as conf/studies/methods.yaml does."
        )


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
        # A run's folder stands for the configuration that it wrote.
        if path.is_dir() or (path.name == "config.yaml" and not path.exists()):
            return _written_config(path) or path
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


def _written_config(folder: Path) -> Path | None:
    """The configuration that a run wrote, of its last stage.

    Args:
        folder: The run's folder, or `config.yaml` in it.
    """
    folder = folder.parent if folder.name == "config.yaml" else folder
    paths = (folder / stage / "config.yaml" for stage in ("online", "offline"))
    return next((path for path in paths if path.is_file()), None)


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


def with_merged_files(argv: list[str]) -> list[str]:
    """Put one configuration in the place of all files, merged name by name from left to right.

    So a file that builds on another states what differs alone; `null` takes a task or a variant of
    a study away. Interpolations such as `${trainer.max_steps}` stay as they are, for the runs.
    """
    merged: dict[str, Any] = {}
    others, arguments = [], iter(argv)
    for argument in arguments:
        if argument != "--config":
            others.append(argument)
            continue
        merged = _merged(merged, read_config(Path(next(arguments))))
    merged.pop("base", None)
    # YAML has values, such as dates, that JSON has not; a setting takes them as text.
    text = json.dumps(_without_null(merged), default=str)
    return [*(["--config", text] if merged else []), *others]


def _merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    result = dict(before)
    for name, value in after.items():
        both = isinstance(value, dict) and isinstance(before.get(name), dict)
        result[name] = _merged(before[name], value) if both else value
    return result


def _without_null(merged: dict[str, Any]) -> dict[str, Any]:
    """Without tasks and variants that a later file takes away."""
    study = merged.get("study")
    if not isinstance(study, dict):
        return merged
    for group in ("tasks", "variants"):
        if isinstance(study.get(group), dict):
            kept = {name: value for name, value in study[group].items() if value is not None}
            study = {**study, group: kept}
    return {**merged, "study": study}
