"""Adam's moments, handed over with the networks that they belong to."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from pex_lightning.errors import UserError, in_one_line
from pex_lightning.handover.checkpoint import Checkpoint

_log = logging.getLogger(__name__)


def take_moments(
    optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, groups: Collection[str]
) -> None:
    """Copy Adam's state of the named groups from a checkpoint whose Adam has the same groups.

    Raises:
        UserError: The checkpoint's is damaged.
    """
    saved = checkpoint.optimizer
    if not saved:
        _log.warning("%s was saved without its optimizer: Adam starts afresh.", checkpoint.path)
        return
    try:
        indices = {group["name"]: group["params"] for group in saved["param_groups"]}
        missing = sorted(set(groups) - indices.keys())
        if missing:
            _log.warning(
                "%s has no Adam state of %s, but of %s: Adam starts afresh there.",
                *(checkpoint.path, ", ".join(missing), ", ".join(indices)),
            )
        for group in optimizer.param_groups:
            if group["name"] not in groups or group["name"] in missing:
                continue
            for parameter, index in zip(group["params"], indices[group["name"]], strict=True):
                optimizer.state[parameter] = _moments(saved["state"][index], parameter)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{checkpoint.path}: the optimizer's state is damaged or was altered "
            f"({type(error).__name__}: {error}). Take another checkpoint."
        ) from error


def check_restored(optimizer: torch.optim.Optimizer, path: object) -> None:
    """Check what Lightning has restored of Adam from a checkpoint; settings are not taken from it.

    Raises:
        UserError: A moment is missing, or has another shape than its parameter.
    """
    try:
        for group in optimizer.param_groups:
            group.update(optimizer.defaults)
            for parameter in group["params"]:
                if optimizer.state[parameter]:
                    _check_moments(optimizer.state[parameter], parameter)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"--ckpt_path {path}: the optimizer's state is damaged or was altered "
            f"({in_one_line(error)}). Take another checkpoint."
        ) from error


def _moments(state: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """A copy of one parameter's moments, where it lives."""
    _check_moments(state, parameter)
    return {key: value.to(parameter.device, copy=True) for key, value in state.items()}


def _check_moments(state: Mapping[str, Tensor], parameter: Tensor) -> None:
    """Check one parameter's moments.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: They are not Adam's, or not finite.
    """
    if state.keys() != {"step", "exp_avg", "exp_avg_sq"}:
        raise ValueError(f"found {sorted(map(str, state))[:5]}")
    for key, value in state.items():
        shape = torch.Size() if key == "step" else parameter.shape
        if value.shape != shape or not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{key} is {list(value.shape)} {value.dtype}, or not finite")
