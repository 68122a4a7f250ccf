"""Bounded loading of YAML, for configuration files and for values on a command line.

A few hundred bytes of YAML can stand for more values than memory holds, because aliases repeat a
node, and deep nesting exhausts the stack of a recursive loader. The events of the parser, which is
not recursive, are therefore counted before anything is built from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from pex_lightning.errors import UserError, shortened

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_NODES = 5_000
"""jsonargparse takes time quadratic in the length of some lists."""

_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE]\+?\d+")
_TEXT_FLAG = re.compile(
    r"name|root|path|folder|dir|kwargs|dataset|\.env|logger|callbacks|^--(out|picture|minari|author)"
)
_SMALLEST_WHOLE, _LARGEST_WHOLE = 1e3, 2.0**53
_LIMITED: set[str] = set()
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config(path: Path) -> Any:
    """Load a configuration file of at most `MAX_BYTES`.

    Raises:
        UserError: It is missing, not a text file, not valid YAML, or beyond a limit.
    """
    text, where = config_text(path), _as_given(path)
    try:
        return _load(text, yaml.safe_load, where)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {error}") from error


def config_text(path: Path) -> str:
    """The text of a configuration file of at most `MAX_BYTES`.

    Raises:
        UserError: It is missing, or not a text file of that size.
    """
    where = _as_given(path)
    try:
        if not path.exists():
            raise UserError(f"{where}: there is no such file.")
        # A pipe or a device may never end.
        if not path.is_file():
            raise UserError(f"{where} is not a file; give a YAML file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{where} is larger than {MAX_BYTES} bytes; give a YAML file.")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where} cannot be read: {shortened(str(error))}") from error


def _as_given(path: Path) -> str:
    return f"--config {shortened(str(path))}"


def limit_values(mode: str) -> None:
    """Bound what parsers of this mode of jsonargparse load: values, and files that values name."""
    if mode in _LIMITED:
        return
    # The loader of some modes exists only after its first use.
    ArgumentParser(parser_mode=mode, exit_on_error=False).parse_string("{}")
    loader = get_loader(mode)

    def limited(text: str) -> Any:
        return _with_integers(_load(text, loader, f"the value {shortened(text, 40)!r}"))

    set_loader(mode, limited, (yaml.YAMLError,))
    _LIMITED.add(mode)


def _with_integers(value: Any) -> Any:
    """Turn large whole floats, such as 1e6, into integers, which settings of either kind accept.

    Smaller ones are left alone: Lightning's `limit_train_batches` means another thing by 1 than by
    1.0. So are the arguments of environments, whose types are not known.
    """
    if isinstance(value, dict):
        return {k: v if k == "env_kwargs" else _with_integers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    large = isinstance(value, float) and _SMALLEST_WHOLE <= abs(value) < _LARGEST_WHOLE
    return int(value) if large and value.is_integer() else value


def with_integers(args: Sequence[str]) -> list[str]:
    """Write large whole numbers of a command line, such as `--trainer.max_steps 1e6`, as integers.

    Names, paths and the arguments of environments are left as they are.
    """
    rewritten: list[str] = []
    for argument in args:
        flag, equals, value = argument.partition("=")
        if not equals:
            flag, value = (rewritten[-1] if rewritten else ""), argument
        names_flag = flag.startswith("--") and "=" not in flag
        if names_flag and not _TEXT_FLAG.search(flag) and _EXPONENT.fullmatch(value):
            value = str(_with_integers(float(value)))
        rewritten.append(f"{flag}={value}" if equals else value)
    return rewritten


def _load(text: str, loader: Callable[[str], Any], where: str) -> Any:
    """Check the limits, then load.

    Raises:
        UserError: A limit is exceeded, a key is given twice, or a value has a zero byte, which no
            path or name may have.
        yaml.YAMLError: The text is not valid YAML.
    """
    try:
        _check(text, where)
        return loader(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Values such as `!!timestamp x` and integers of many digits, in which PyYAML itself fails.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


@dataclass
class _Node:
    """A collection whose end was not reached yet.

    Attributes:
        anchor: Its name for aliases, if it has one.
        mapping: Whether its children are keys and values in turn.
        nodes: Nodes so far, itself and the expansion of aliases included.
        height: Levels below it so far.
        children: Number of direct children so far.
        keys: The plain keys of a mapping.
    """

    anchor: str | None
    mapping: bool
    nodes: int = 1
    height: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


def _check(text: str, where: str) -> None:
    open_nodes = [_Node(None, mapping=False)]
    finished: dict[str | None, tuple[int, int]] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        nodes, height, parent = 1, 1, open_nodes[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            mapping = isinstance(event, yaml.MappingStartEvent)
            open_nodes.append(_Node(event.anchor, mapping))
            if len(open_nodes) > MAX_DEPTH + 1:
                raise _too_much(where, f"more than {MAX_DEPTH} levels of nesting")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            ended = open_nodes.pop()
            nodes, height, parent = ended.nodes, ended.height, open_nodes[-1]
            finished[ended.anchor] = nodes, height
        elif isinstance(event, yaml.AliasEvent):
            if any(node.anchor == event.anchor for node in open_nodes):
                raise _too_much(where, f"the alias *{event.anchor} inside of what it stands for")
            nodes, height = finished.get(event.anchor, (1, 1))
        elif isinstance(event, yaml.ScalarEvent):
            finished[event.anchor] = 1, 1
            _check_scalar(event, parent, where)
        else:
            continue
        parent.children += 1
        parent.nodes += nodes
        parent.height = max(parent.height, height + 1)
        if sum(node.nodes for node in open_nodes) > MAX_NODES:
            raise _too_much(where, f"more than {MAX_NODES} values, those of aliases included")
        if len(open_nodes) + height > MAX_DEPTH + 1:
            raise _too_much(where, f"more than {MAX_DEPTH} levels of nesting")


def _check_scalar(event: Any, parent: _Node, where: str) -> None:
    value, line = event.value, event.start_mark.line + 1
    if "\0" in value:
        raise UserError(f"{where}: line {line} has a zero byte; remove it.")
    if parent.mapping and parent.children % 2 == 0:
        if value in parent.keys:
            raise UserError(
                f"{where}: line {line} gives {shortened(value)!r} again; remove one of the two."
            )
        parent.keys.add(value)


def _too_much(where: str, what: str) -> UserError:
    return UserError(f"{where} has {what}, which no configuration needs; shorten it.")
