"""`pex-lightning completion`: a script with which a shell completes this package's commands.

The script is static: a Tab starts no process.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from pex_lightning.errors import UserError
from pex_lightning.shipped import shipped_names
from pex_lightning.version import __version__

USAGE = """\
usage: pex-lightning completion SHELL

Prints a script for bash or zsh, which completes commands, flags, methods and configurations. Write
it to a file that your shell reads when it starts, and again after an upgrade:
  pex-lightning completion bash > ~/.pex-lightning-completion
  echo '. ~/.pex-lightning-completion' >> ~/.bashrc
"""
_FIRST = {
    "bash": "",
    "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n",
}
_SCRIPT = r"""# Completion of pex-lightning VERSION in SHELL.
FIRST_pex_lightning() {
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""
    local command="${COMP_WORDS[*]:1:$((COMP_CWORD-1))} "
    COMPREPLY=()
    case "$before" in
        -c|--config)
            words="CONFIGURATIONS"
            COMPREPLY=($(compgen -f -- "$current"))
            type compopt > /dev/null 2>&1 && compopt -o filenames ;;
        --model|--offline.model) words="METHODS" ;;
        --*) ;;
        *)
            case "$command" in
CASES
            esac ;;
    esac
    COMPREPLY+=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _pex_lightning pex-lightning
"""


def completion(argv: list[str]) -> int:
    """Print the script; return the exit code.

    Raises:
        UserError: There is none for this shell.
    """
    if argv in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if len(argv) != 1 or argv[0] not in _FIRST:
        raise UserError(
            f"completion: found {' '.join(argv)!r}, expected {' or '.join(_FIRST)}. "
            "See pex-lightning completion --help."
        )
    # Slow imports, for this alone.
    from pex_lightning.algorithms import ALGORITHMS  # noqa: PLC0415

    cases = [
        f'                {_pattern(command)}) words="{" ".join(words)}" ;;'
        for command, words in sorted(_words(()), reverse=True)
    ]
    filled = {
        "VERSION": __version__,
        "SHELL": argv[0],
        "FIRST": _FIRST[argv[0]],
        "CONFIGURATIONS": " ".join(shipped_names()),
        "METHODS": " ".join(ALGORITHMS),
        "CASES": "\n".join(cases),
    }
    sys.stdout.write(re.sub("|".join(filled), lambda match: filled[match[0]], _SCRIPT))
    return 0


def _pattern(command: tuple[str, ...]) -> str:
    """Of the words before the current one; the command itself, or also flags after it."""
    return f'"{" ".join(command)} "*' if command else '" "'


def _words(
    command: tuple[str, ...], above: str = ""
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """What may follow a command and those below it, as their help says."""
    if command == ("completion",):
        yield command, list(_FIRST)
    elif command[:1] == ("conf",) and command[1:] in (("show",), ("copy",)):
        yield command, [PurePosixPath(name).with_suffix("").as_posix() for name in shipped_names()]
    elif (text := _help(command)) != above:
        _, _, listed = text.partition("commands:\n")
        if listed:
            below = re.findall(r"^  (\w+)  ", listed, re.MULTILINE)
            yield command, below
            for name in below:
                yield from _words((*command, name), text)
        else:
            yield command, _flags(command, text)


def _help(command: tuple[str, ...]) -> str:
    from pex_lightning.cli import main  # noqa: PLC0415  (it imports this module)

    full = ("full",) if command == ("fit",) else ()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*command, "--help", *full])
    return out.getvalue()


def _flags(command: tuple[str, ...], text: str) -> list[str]:
    found = set(re.findall(r"^  (?:-.*?, )?(--[a-z][\w.]*)", text, re.MULTILINE))
    if command == ("fit",):
        from pex_lightning.cli.suggestions import known_keys  # noqa: PLC0415

        found |= {f"--{key}" for key in known_keys()} | {"--model.help", "--data.help"}
    return sorted(found | {"--help"})
