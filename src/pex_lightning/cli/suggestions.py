"""What a user may have meant by a setting that does not exist."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator

from pytorch_lightning import Trainer

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.algorithms.checks import constructor_parameters
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.cli.settings import RunSettings
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData

_OTHER_WORDS = {
    "alpha": ("beta", "cql_alpha"),
    "batch": ("batch_size",),
    "device": ("accelerator", "devices"),
    "discount": ("gamma",),
    "dataset": ("dataset", "path"),
    "environment": ("env",),
    "episodes": ("episodes",),
    "file": ("path",),
    "gpus": ("devices",),
    "hidden_sizes": ("hidden_dims",),
    "lr": ("learning_rate",),
    "polyak": ("tau",),
    "resume": ("ckpt_path",),
    "seed": ("seed_everything",),
    "steps": ("max_steps",),
    "total_steps": ("max_steps",),
}
"""Words of other libraries for the last part of a key."""
_MOST = 3
_DATA = (OfflineData, OnlineData)


def known_keys() -> list[str]:
    """Keys of all settings of `fit`, those of every method and data module among them."""
    return sorted(set(_known_keys()))


def settings_of(group: str) -> list[str]:
    """The settings directly in a group, such as `offline`; none if it is no group."""
    return [key for key in known_keys() if key.rpartition(".")[0] == group]


def meant_by(key: str) -> list[str]:
    """Up to three settings that `key`, which is none, may stand for, the likeliest first.

    Args:
        key: Such as `model.lr`.
    """
    known = known_keys()
    group, _, name = key.replace("-", "_").rpartition(".")
    inside = settings_of(group)
    found = _called(name, inside) or _called(name, known)
    found = found or _resembling(name, inside) or _resembling(name, known)
    found = found or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    # The settings of the online stage come before those of the offline stage.
    return sorted(found, key=lambda k: k.startswith("offline."))[:_MOST]


def owners(key: str) -> list[str]:
    """The methods or data modules that have a setting; none if it is no setting of such a class.

    Args:
        key: Such as `model.tau` or `data.path`.
    """
    group, _, name = key.rpartition(".")
    classes: dict[str, type] = {data.__name__: data for data in _DATA}
    if group in ("model", "offline.model"):
        classes = dict(ALGORITHMS)
    elif group != "data":
        return []
    return [owner for owner, built in classes.items() if name in _parameters(built)]


def _called(name: str, keys: list[str]) -> list[str]:
    """The keys whose last part is `name`, or what other libraries call so."""
    words = (name, *_OTHER_WORDS.get(name, ()))
    return [key for word in words for key in keys if _last(key) == word]


def _resembling(name: str, keys: list[str]) -> list[str]:
    """The keys whose last part begins with `name`; else those whose last part resembles it."""
    if found := [key for key in keys if _last(key).startswith(name)]:
        return found
    close = difflib.get_close_matches(name, {_last(key) for key in keys}, n=_MOST, cutoff=0.75)
    return [key for last in close for key in keys if _last(key) == last]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _known_keys() -> Iterator[str]:
    yield from ("config", "print_config", "seed_everything", "ckpt_path", "model", "data")
    yield from ("trainer", "offline", "evaluation", "run")
    yield from (
        "offline.max_steps",
        "offline.ckpt_path",
        "offline.evaluate_every",
        "offline.model",
        "offline.reuse",
        "offline.trainer",
    )
    for algorithm in ALGORITHMS.values():
        for name in _parameters(algorithm):
            yield f"model.{name}"
            yield f"offline.model.{name}"
    for data in _DATA:
        yield from (f"data.{name}" for name in _parameters(data))
    for name in _parameters(Trainer):
        yield f"trainer.{name}"
        if name != "max_steps":
            yield f"offline.trainer.{name}"
    yield from (f"evaluation.{field.name}" for field in dataclasses.fields(EvaluationSettings))
    yield from (f"run.{field.name}" for field in dataclasses.fields(RunSettings))


def _parameters(built: type) -> Iterator[str]:
    """Names of a constructor's arguments, those that it passes on to its bases too."""
    names = (parameter.name for parameter in constructor_parameters(built))
    return (name for name in names if name not in ("self", "args", "kwargs"))
