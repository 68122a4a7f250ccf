"""Writes `reference/commands.md` and `reference/settings.md` from the code: run this file.

The pages are part of the repository, so that a build of the documentation needs neither torch nor
MuJoCo; a test compares them with what this makes.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docstring_parser
from jsonargparse import ArgumentParser, capture_parser

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.cli import USAGE, main
from pex_lightning.cli.completion import completion
from pex_lightning.cli.conf import conf
from pex_lightning.cli.data import data
from pex_lightning.cli.fit_help import SHORT
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n"
_PARSED = (
    "fit",
    "test",
    "export",
    "study",
    "report",
    "data list",
    "data fetch",
    "data make",
    "data info",
    "data export",
)
_LEFT_OUT = ("trainer", "offline.trainer", "study.tasks", "study.variants")
"""Of these, what stands below them: it is Lightning's, or nested in a file."""

_OWN_WORDS = {
    "config": "A file of settings; several are merged, later ones override earlier ones.",
    "print_config": "Print the settings in effect, and do nothing else.",
    "seed_everything": "The seed of everything; true draws one.",
    "model": "The method, see [settings](settings.md); `--model.help` lists all.",
    "data": "The data module, see [settings](settings.md); `--data.help` lists both.",
    "offline.model": "The method of the offline stage; `--offline.model.help` lists all.",
}
"""Instead of texts that are the libraries', which change with their versions."""


def commands() -> str:
    """The page about commands: what each says of itself, and its arguments."""
    parts = [
        "# Commands\n",
        NOTE,
        "The texts are those of `--help`. [The command line](../command-line.md) says what holds "
        "for all commands, and [settings](settings.md) what stands under `--model` and `--data`."
        "\n",
        _block(USAGE),
    ]
    for command in _PARSED:
        if command == "data list":
            parts.extend(("## pex-lightning data\n", _block(_printed(data))))
        parser = capture_parser(lambda line=command: main(line.split()))
        parts.append(f"## pex-lightning {command}\n")
        parts.append(_escaped(_sentence(parser.description or "")) + "\n")
        if command == "fit":
            parts.append(_block(SHORT))
            parts.append(
                "Under `--trainer` and `--offline.trainer` stand the arguments of Lightning's "
                "[Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html#trainer-flags)."
                "\n"
            )
        parts.append(_arguments(command, parser))
    for name, command_function in (("conf", conf), ("completion", completion)):
        parts.append(f"## pex-lightning {name}\n")
        parts.append(_block(_printed(command_function)))
    return "\n".join(parts)


def settings() -> str:
    """The page about settings: what stands under `--model` and `--data`, class by class."""
    parts = [
        "# Settings of methods and data\n",
        NOTE,
        "`--model PEX --model.beta 10` on the command line is `model: {class_path: PEX, init_args: "
        "{beta: 10}}` in a file; `offline.model` takes the same settings for the offline stage. A "
        "class has the settings of those that it builds on, too.\n",
        "The defaults are those of the code; the configurations that come with the package set "
        "some of them by task (`pex-lightning conf show NAME`).\n",
    ]
    for title, flag, classes in (
        ("Methods", "--model", list(ALGORITHMS.values())),
        ("Data", "--data", [OfflineData, OnlineData]),
    ):
        parts.append(f"## {title}\n")
        for cls in _with_bases(classes):
            parts.extend(_class(cls, flag))
    return "\n".join(parts)


def _with_bases(classes: list[type]) -> list[type]:
    """The classes and what they build on, bases first, of this package and with settings."""
    found: dict[type, None] = {}
    for cls in classes:
        found.update(dict.fromkeys(reversed(_bases(cls))))
    return list(found)


def _bases(cls: type) -> list[type]:
    """A class and its bases that have settings of their own, itself first."""
    return [
        base
        for base in cls.__mro__
        if base.__module__.startswith("pex_lightning.")
        and (base is cls or ("__init__" in vars(base) and _own(base)))
    ]


def _own(cls: type) -> dict[str, inspect.Parameter]:
    """Parameters of a class's own constructor, without `self` and `kwargs`."""
    if "__init__" not in vars(cls):
        return {}
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    return {
        name: parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in inspect.signature(cls.__init__).parameters.items()  # type: ignore[misc]
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }


def _class(cls: type, flag: str) -> Iterator[str]:
    text = docstring_parser.parse(cls.__doc__ or "", style=docstring_parser.DocstringStyle.GOOGLE)
    about = {parameter.arg_name: parameter.description or "" for parameter in text.params}
    yield f"### {cls.__name__}\n"
    yield _escaped(text.short_description or "") + "\n"
    own = _own(cls)
    if own:
        rows = [
            (f"`{flag}.{name}`", _type(p.annotation), _default(p.default), about.get(name, ""))
            for name, p in own.items()
        ]
        yield _table(rows)
    others = [f"[{base.__name__}](#{base.__name__.lower()})" for base in _bases(cls)[1:]]
    if others:
        yield ("And those of " if own else "Those of ") + ", ".join(others) + ".\n"


def _arguments(command: str, parser: ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        dest = action.dest
        nested = dest.startswith(tuple(f"{name}." for name in _LEFT_OUT))
        # Groups (`--run`) and help have no value.
        without_value = action.default == argparse.SUPPRESS and dest != "print_config"
        if nested or without_value or dest in ("trainer", "offline.trainer"):
            continue
        flags = [flag for flag in action.option_strings if not flag.endswith("+")]
        name = ", ".join(f"`{flag}`" for flag in flags) or _code(
            str(action.metavar or dest.upper())
        )
        takes = action.nargs != 0 and action.default != argparse.SUPPRESS
        kind = getattr(action, "_typehint", None) or action.type
        required = action.required and action.nargs != "?"
        default = "required" if required else _default(action.default) if takes else ""
        about = action.help or ""
        if command in ("fit", "study"):
            about = _OWN_WORDS.get(dest, about)
        rows.append((name, _type(kind) if takes else "", default, about))
    return _table(rows)


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    for name, kind, default, about in rows:
        lines.append(f"| {name} | {kind} | {default} | {_cell(about)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return _escaped(_sentence(text)).replace("|", "&#124;")


def _sentence(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _escaped(text: str) -> str:
    """Text in which `<…>` outside of code is no HTML."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else piece.replace("<", "&lt;").replace("*", "\\*")
        for piece in pieces
    )


def _type(kind: Any) -> str:
    if kind in (None, inspect.Parameter.empty):
        return ""
    return _code(_type_name(kind))


def _code(text: str) -> str:
    """Text as code in a cell of a table, whose columns a `|` would part."""
    return "`" + text.replace("|", " or ") + "`"


def _type_name(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is type(None):
        return "None"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in inner)
    if origin is typing.Literal:
        return " or ".join(str(part) for part in inner)
    name = getattr(origin or kind, "__name__", str(kind))
    if origin is not None and inner:
        return f"{name}[{', '.join(_type_name(part) for part in inner)}]"
    return name


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value in ("", {}, [], ()):
        return ""
    if isinstance(value, tuple):
        value = list(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def _printed(command: Callable[[list[str]], int]) -> str:
    """What a command prints for `--help`."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        command(["--help"])
    return out.getvalue()


PAGES: dict[str, Callable[[], str]] = {"commands.md": commands, "settings.md": settings}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (REFERENCE / file).write_text(make())
        sys.stdout.write(f"{REFERENCE / file}\n")
