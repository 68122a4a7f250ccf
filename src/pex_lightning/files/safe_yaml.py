"""Reads YAML of a run's or a study's folder, which may be damaged or hostile."""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 40
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(content: bytes) -> Any:
    """Parse YAML into plain objects; nothing in it is executed.

    Aliases let few bytes stand for more than memory holds, so whoever copies the result has to
    count.

    Raises:
        ValueError: It is no YAML, or nested too deeply.
    """
    try:
        depth = 0
        # The loader is recursive: what is too deep would exhaust its stack.
        for event in yaml.parse(content, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"more than {_DEEPEST} levels")
        return yaml.load(content, Loader=_LOADER)
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
