"""Adam's moments, handed over with the networks that they belong to."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from pex_lightning.errors import UserError
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


def _moments(state: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """A copy of one parameter's moments, where it lives."""
    for key in ("exp_avg", "exp_avg_sq"):
        if state[key].shape != parameter.shape or not torch.isfinite(state[key]).all():
            raise ValueError(f"{key} is {list(state[key].shape)} or not finite")
    return {key: value.to(parameter.device, copy=True) for key, value in state.items()}
