"""Short messages for parsing errors: the key, its place, and a similar valid key."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf.errors import OmegaConfBaseException

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.cli.places import where_set
from pex_lightning.cli.suggestions import meant_by, owners, settings_of
from pex_lightning.cli.wrong_values import PARSER_KEY, told_in_a_sentence
from pex_lightning.errors import in_one_line, shortened

_UNKNOWN_KEY = (
    re.compile(r"[Uu]nrecognized arguments: (?:--)?(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Option '(?P<key>[^']+)' is not accepted"),
)
_WRONG_CLASS = re.compile(
    r"Import path (?P<value>\S+) does not correspond to a subclass of (?P<base>\w+)"
)
_CLASS_FAILED = re.compile(r"Problem with given class_path '(?P<name>[^']+)':\s*(?P<why>.+)")
_OUR_MESSAGE = re.compile(r"(?:- )(?P<text>--\S+ is .*)")
_KNOWN_CLASSES = {"Algorithm": [*ALGORITHMS], "OfflineData": ["OfflineData", "OnlineData"]}
_CLASSES_OF_SETTING = {"model": _KNOWN_CLASSES["Algorithm"], "data": _KNOWN_CLASSES["OfflineData"]}
_INIT_ARGS = ".init_args"
_MOST_NAMES = 4
_NO_CONTAINER = re.compile(
    r"trying to access (?P<key>[\w.]+): node `(?P<group>[\w.]+)` is not a container"
)
_NO_KEY = re.compile(r"Interpolation key '\.*(?P<key>[\w.]+)' not found")
_MISSING = re.compile(
    r"^the following arguments are required: (?P<keys>(?:(?:data|model)(?:, )?)+)$"
)
_MISSING_OF_A_CLASS = re.compile(
    r"Problem with given class_path '(?P<name>[^']+)':.*"
    r"the following arguments are required: (?P<keys>[\w, ]+)",
    re.S,
)
_NO_CLASS = re.compile(
    r"Problem with given class_path '(?P<value>[^']+)':\s+"
    r"(?P<why>No module named '[^']+'|module '[^']+' has no attribute '[^']+')"
)


def explain(error: Exception, args: Sequence[str]) -> str:
    """Turn an exception from jsonargparse into a message for the user.

    Args:
        error: The exception.
        args: The command line, to find the file that holds a wrong key.
    """
    text = str(error)
    keys = [match["key"] for match in PARSER_KEY.finditer(text)]
    for pattern in _UNKNOWN_KEY:
        if match := pattern.search(text):
            group = match.groupdict().get("group") or (keys[0] if keys else "")
            key = f"{group}.{match['key']}" if group else match["key"]
            return _unknown_key(key, args)
    if match := _OUR_MESSAGE.search(text):
        return match["text"]
    if "numpy accepts" in text:
        return f"--seed_everything: {text}"
    key = keys[0] if keys else None
    message = _missing(text, key) or _wrong_class(text, key)
    if message := message or told_in_a_sentence(text, lambda key: where_set(key, args)):
        return message
    return shortened(re.sub(r'^Parser key "([^"]+)": ?', r"--\1: ", text), 1_000)


def explain_resolution(error: OmegaConfBaseException) -> str:
    """Turn an exception from OmegaConf, about `${…}` in a value, into a message for the user."""
    reason = in_one_line(error)
    taker = str(error.full_key).replace(_INIT_ARGS, "")
    if match := _NO_CONTAINER.search(reason) or _NO_KEY.search(reason):
        taken, group = match["key"].replace(_INIT_ARGS, ""), match.groupdict().get("group")
        why = f"{group} is null or a single value" if group else "there is no such setting here"
        other = f"--{group}, or " if group else ""
        return (
            f"--{taker} takes its value from --{taken}, but {why}. Give {other}--{taker} a value "
            "of its own."
        )
    return f"--{error.full_key} cannot be resolved ({shortened(reason)})."


def _missing(text: str, key: str | None) -> str | None:
    """The message about model or data, or a setting of a class, that is missing; else None."""
    if match := _MISSING_OF_A_CLASS.search(text):
        names = " and ".join(f"--{key}.{name}" for name in match["keys"].split(", "))
        return f"{match['name']} needs a value of {names}."
    if match := _MISSING.search(text):
        missing = match["keys"].split(", ")
        examples = {"data": "--data OnlineData", "model": "--model PEX"}
        return (
            f"{' and '.join(f'--{key}' for key in missing)}: not given, or null. Start from a "
            "configuration, such as --config conf/pointmaze.yaml, or give "
            f"{' and '.join(examples[key] for key in missing)}, for example."
        )
    return None


def _wrong_class(text: str, key: str | None) -> str | None:
    """The message about a class that does not exist, is of another kind or fails; else None."""
    if key is None:
        match = _CLASS_FAILED.search(text)
        if match is None:
            return None
        why = shortened(match["why"], 500)
        return f"{match['name']} cannot be built with these settings: {why}"
    if match := _WRONG_CLASS.search(text):
        known = _KNOWN_CLASSES.get(match["base"])
        ours = f": {', '.join(known)}, or one of your own" if known else ""
        return (
            f"--{key}.class_path is {match['value']}, expected a subclass of {match['base']}{ours}."
        )
    if "Expected a dot import path string" in text:
        value = text.rsplit("Given value: ", 1)[-1]
        nested = re.search(r"NestedArg\(key='class_path', val='(.*)'\)", value)
        value = shortened(nested[1] if nested else value)
        known = _CLASSES_OF_SETTING.get(key.rpartition(".")[2], [])
        ours = f"Known are {', '.join(known)}, or give" if known else "Give"
        return f"--{key} {value}: there is no such class. {ours} the full path of a class."
    if match := _NO_CLASS.search(text):
        return (
            f"--{key} {match['value']}: {match['why']}. A class of your own is given as "
            "module.Class, and its module is looked for in PYTHONPATH and in the current folder."
        )
    return None


def _unknown_key(key: str, args: Sequence[str]) -> str:
    key = shortened(key.replace(_INIT_ARGS, ""))
    if key.endswith((".yaml", ".yml")):
        return f"{key} is given without a flag. Write --config {key}."
    if of := owners(key):
        group = key.rpartition(".")[0]
        return (
            f"there is no setting {key!r} here{where_set(key, args)}: {_listed(of)} "
            f"{'has' if len(of) == 1 else 'have'} it, and the {group} of this run is another. "
            f"pex-lightning fit --{group}.help NAME lists the settings of one."
        )
    if inside := settings_of(key):
        names = _listed([f"--{name}" for name in inside])
        none = "; for none of them, give --config a file with `offline: null`"
        return (
            f"--{key} is a group of settings, given by name: {names}"
            f"{none if key == 'offline' else ''}."
        )
    close = [f"--{name}" for name in meant_by(key)]
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return (
        f"there is no setting {key!r}{where_set(key, args)}.{meant} All of them: "
        "pex-lightning fit --help full, or --print_config for those in effect."
    )


def _listed(names: Sequence[str]) -> str:
    """Names in words, the first few of many."""
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[:_MOST_NAMES])} and others"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
