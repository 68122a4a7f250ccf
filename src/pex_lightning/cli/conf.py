"""`pex-lightning conf`: the configurations that come with the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.shipped import FOLDER, close_to, copied_text, shipped_names

USAGE = """\
usage: pex-lightning conf COMMAND [arguments]

commands:
  list    names of the configurations that come with the package, for --config
          pex-lightning conf list
  show    print one of them
          pex-lightning conf show antmaze
  copy    copy one of them to a file of your own, to change it
          pex-lightning conf copy antmaze my.yaml
"""
_USES = {
    "conf": "whole jobs",
    "conf/iql": "the offline stage alone",
    "conf/d4rl": "D4RL's published data",
    "conf/methods": "methods, given after a whole job",
    "conf/ablations": "ablations, given after a whole job",
    "conf/base": "parts of the others",
}


def conf(argv: list[str]) -> int:
    """Run `pex-lightning conf`; return the exit code.

    Raises:
        UserError: There is no such command or configuration, or a file is there already.
    """
    command, *arguments = argv or ["--help"]
    if command in ("--help", "-h") or arguments in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
    elif command == "list" and not arguments:
        sys.stdout.writelines(f"{line}\n" for line in _listed())
    elif command == "show" and len(arguments) == 1:
        sys.stdout.write(copied_text(_name(arguments[0])))
    elif command == "copy" and len(arguments) in (1, 2):
        _copy(*arguments)
    else:
        raise UserError(
            f"conf: found {' '.join(argv)!r}, expected `list`, `show NAME` or `copy NAME [FILE]`. "
            "See pex-lightning conf --help."
        )
    return 0


def _listed() -> Iterator[str]:
    names = shipped_names()
    for folder, use in _USES.items():
        yield f"{folder}/  ({use})"
        for name in names:
            if name.rpartition("/")[0] == folder:
                yield f"  {name:<48} {_first_line(name)}".rstrip()


def _first_line(name: str) -> str:
    """What its first line of comment says, up to the first colon."""
    with (FOLDER / name.removeprefix("conf/")).open() as file:
        line = file.readline()
    return line[1:].split(":")[0].strip() if line.startswith("#") else ""


def _name(given: str) -> str:
    """The full name of what the user gives in full or without `conf/` and `.yaml`.

    Raises:
        UserError: There is none.
    """
    name = f"conf/{given.removeprefix('conf/').removesuffix('.yaml')}.yaml"
    names = shipped_names()
    found = [name] if name in names else [n for n in names if n.endswith(name[len("conf") :])]
    if len(found) > 1:
        raise UserError(f"conf: {given} may be {' or '.join(found)}. Give the longer name.")
    if not found:
        close = close_to(name)
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(
            f"conf: no configuration {given!r} comes with the package.{meant} See "
            "pex-lightning conf list."
        )
    return found[0]


def _copy(given: str, target: str | None = None) -> None:
    name = _name(given)
    path = Path(target or Path(name).name)
    if path.is_dir():
        path /= Path(name).name
    if path.exists():
        raise UserError(f"conf copy: {path} is there already. Give another name: copy NAME FILE.")
    with written_aside(path) as aside:
        aside.write_text(copied_text(name))
    sys.stderr.write(f"Copied. Use it with: pex-lightning fit --config {path}\n")
