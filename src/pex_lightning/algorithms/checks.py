"""What is refused before a method trains: settings that cannot work, and mistakes of its author."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import nn

from pex_lightning.errors import UserError
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.executor import scales_gradients

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def method_name(method: type[Any]) -> str:
    """What a method is called in checkpoints: its class, with its module if that is a user's."""
    ours = method.__module__.partition(".")[0] == __name__.partition(".")[0]
    return method.__name__ if ours else f"{method.__module__}.{method.__qualname__}"


def constructor_parameters(built: type[Any]) -> Iterator[inspect.Parameter]:
    """The parameters of a class's constructor, and of those of its bases, the class's own first."""
    for owner in built.__mro__:
        if "__init__" in vars(owner):
            yield from inspect.signature(vars(owner)["__init__"]).parameters.values()


def default_hyper_parameters(method: type[Any]) -> dict[str, Any]:
    """The defaults of all arguments of a method's constructors, those of its bases too."""
    defaults: dict[str, Any] = {}
    for parameter in constructor_parameters(method):
        if parameter.default is not parameter.empty:
            defaults.setdefault(parameter.name, parameter.default)
    return defaults


def check_precision(precision: str, flag: str) -> None:
    """Refuse a precision that cannot act in an environment.

    Args:
        precision: In Lightning's canonical form, for example `"32-true"`.
        flag: Where the Trainer's arguments are on the command line; named in the error.

    Raises:
        UserError: It is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UserError(
            f"{flag}.precision is {precision}; environments speak float32, so it must be one of "
            f"{', '.join(PRECISIONS)}."
        )


def check_clipping(trainer: Trainer, clipping: Clipping) -> None:
    """Refuse to clip gradients that are scaled.

    Raises:
        UserError: The trainer's precision scales them.
    """
    if scales_gradients(trainer) and clipping.limit is not None:
        raise UserError(
            "--trainer.precision 16-mixed scales the gradients, which cannot be clipped "
            "before they are scaled back. Use bf16-mixed, or leave gradient_clip_val out."
        )


def check_can_be_made_again(method: LightningModule) -> None:
    """Refuse a method whose hyper-parameters are not arguments of its constructor.

    Raises:
        UserError: A checkpoint of it could not be loaded.
    """
    try:
        type(method)(**method.hparams)
    except TypeError as error:
        raise UserError(
            f"{method_name(type(method))} cannot be made again from its hyper-parameters, which a "
            f"checkpoint needs: {error}. What its constructor sets for its base has to be an "
            "argument of its own: def __init__(self, tau=0.01, **kwargs): "
            "super().__init__(tau=tau, **kwargs)."
        ) from error


def check_one(method: LightningModule, given: Sequence[Path]) -> None:
    """Refuse several checkpoints for a method that starts from one.

    Raises:
        UserError: There are others than one.
    """
    if len(given) != 1:
        raise UserError(
            f"{method_name(type(method))} starts from one offline checkpoint, but "
            f"--offline.ckpt_path names {len(given)}: {', '.join(map(str, given))}. Give one."
        )


def check_has_its_parameters(
    method: LightningModule, used: Mapping[str, Iterable[nn.Parameter]]
) -> None:
    """Refuse a method that learns, or acts with, parameters that no checkpoint would hold.

    Args:
        method: The method.
        used: The parameters that it learns or acts with, by what they are called in the error.

    Raises:
        UserError: Names the group, or the acting policy.
    """
    own = {id(parameter) for parameter in method.parameters()}
    for name, parameters in used.items():
        if any(id(parameter) not in own for parameter in parameters):
            raise UserError(
                f"{method_name(type(method))}: {name} has parameters that the module does not "
                "have, so no checkpoint would hold them. Make their network an attribute of the "
                "method, or part of one that is."
            )
