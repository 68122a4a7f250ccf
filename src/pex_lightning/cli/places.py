"""Where a setting was given: the file and line of configuration files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from pex_lightning.cli.yaml_limits import config_text
from pex_lightning.errors import UserError


def where_set(key: str, args: Sequence[str]) -> str:
    """The file and line that set a key, in words that begin with a blank.

    It is empty if the key is on the command line, or is found in no file.

    Args:
        key: Such as `offline.max_steps`, with or without `init_args`.
        args: The command line, which names the files.
    """
    name = key.rsplit(".", 1)[-1]
    if any(re.match(rf"--\S*\b{re.escape(name)}(=|$)", arg) for arg in args):
        return ""
    for file, inside in _files_that_may_set(key, args):
        line = _line(Path(file), inside)
        if line is not None:
            return f" ({file}, line {line})"
    return ""


def _files_that_may_set(key: str, args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Files given to `--config` or to the key's group, and the key in them.

    The last comes first, since it overrides the others.
    """
    found = []
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        flag, given, value = arg.partition("=")
        group = flag.removeprefix("--")
        if flag in ("--config", "-c"):
            found.append((value if given else following, key))
        elif flag.startswith("--") and key.startswith(f"{group}."):
            found.append((value if given else following, key.removeprefix(f"{group}.")))
    return reversed(found)


def _line(file: Path, key: str) -> int | None:
    """The line of a key in a YAML file, counted from 1; None if it is not found."""
    try:
        node = yaml.compose(config_text(file), Loader=yaml.SafeLoader)
    except (UserError, yaml.YAMLError, RecursionError):
        return None
    return None if node is None else _line_below(node, key.split("."))


def _line_below(node: yaml.Node, parts: list[str]) -> int | None:
    """The line of the key that `parts` make below a node; keys may be written with dots."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        names = str(name.value).split(".")
        if names == parts:
            return int(name.start_mark.line) + 1
        if names == ["init_args"] and parts[0] != "init_args":
            names = []
        elif names != parts[: len(names)]:
            continue
        line = _line_below(value, parts[len(names) :])
        if line is not None:
            return line
    return None
