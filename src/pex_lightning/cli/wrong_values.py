"""Reads jsonargparse's messages, of several lines, about a value of none of the types expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pex_lightning.errors import shortened

PARSER_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":')
"""How a message names the setting that it is about, once for each level of nesting."""
_ONE_TYPE = re.compile(r"Expected an? (?P<types>.+?)\. Got value: (?P<value>.*)")
_NO_TYPE_FITS = re.compile(
    r"Subtypes: \[(?P<types>[^\n]*)\]\s+Errors:(?:\s+- Expected an? [^\n]+)+"
    r"\s+Given value type: [^\n]*\s+Given value: (?P<value>(?!NestedArg).*)"
)
_A_TYPE = re.compile(r"<class '[^']+'>|typing\.Literal\[[^]]*\]|[\w.]+(?:\[[^]]*\])?")
_NO_GROUP = re.compile(
    r"Not a valid subclass of \w+\. Got value: (?P<value>.*)"
    r"|Unable to load config '(?P<file>[^']*)'"
)


def told_in_a_sentence(text: str, where: Callable[[str], str] | None = None) -> str | None:
    """The sentence about a value of a wrong type; None if a message is about something else.

    Args:
        text: The message.
        where: In which file and line a setting is, in words that begin with a blank.
    """
    if match := _ONE_TYPE.search(text):
        kinds = [match["types"]]
    elif match := _NO_TYPE_FITS.search(text):
        kinds = _A_TYPE.findall(match["types"])
    elif match := _NO_GROUP.search(text):
        kinds = ["a group of settings, or a file with them"]
    else:
        return None
    key = _joined(found["key"] for found in PARSER_KEY.finditer(text, 0, match.start()))
    values = (match.groupdict().get(name) for name in ("value", "file"))
    value = next(found for found in values if found is not None)
    expected = " or ".join(map(_named, kinds))
    place = "" if where is None else where(key)
    return f"--{key} is {shortened(value)!r}{place}, expected {expected}."


def _joined(names: Iterable[str]) -> str:
    """The key that names of all levels make; where a file is a group's, the inner has the outer."""
    key = ""
    for name in names:
        key = f"{key}.{name}" if key and not f"{name}.".startswith(f"{key}.") else name
    return key


def _named(kind: str) -> str:
    """A type as a user writes its values; `null` is how a file says None."""
    kind = re.sub(r"<class '([^']+)'>", r"\1", kind)
    kind = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", kind)
    kind = re.sub(r"(?:collections\.abc|typing)\.(?:Sequence|Iterable|List)", "list", kind)
    return kind.replace("NoneType", "null")
