"""Checkpoints of single agents, stacked into one of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pex_lightning.errors import UserError, in_one_line
from pex_lightning.handover.checkpoint import PLACES, Checkpoint, Part

_PARTS: tuple[Part, ...] = ("q", "target", "policy")


def as_ensemble(given: Sequence[Checkpoint], size: int) -> Checkpoint:
    """One checkpoint with the Q-functions, targets and policies of `size` agents.

    Args:
        given: One checkpoint of an ensemble, or those of `size` agents with Gaussian policies.
        size: Number of agents.

    Returns:
        The ensemble's checkpoint, with Adam's moments of the group `q`.

    Raises:
        UserError: There are more or fewer agents, one is given twice, the policies are of another
            kind, or a checkpoint is damaged.
    """
    sizes = [_agents(checkpoint) for checkpoint in given]
    if sizes == [size]:
        return given[0]
    paths = [checkpoint.path.resolve() for checkpoint in given]
    shown = ", ".join(str(checkpoint.path) for checkpoint in given)
    if any(found is not None for found in sizes) or len(given) != size:
        raise UserError(
            f"--model.ensemble_size is {size}, which needs one checkpoint of such an "
            f"ensemble, or {size} checkpoints of single agents; given: {shown}."
        )
    if len(set(paths)) < size:
        raise UserError(
            f"of {shown} one is given more than once; an ensemble needs agents that differ."
        )
    try:
        return _stacked(given)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{shown} cannot be joined to an ensemble ({in_one_line(error)}). One of them is of "
            "another size, is damaged or was altered."
        ) from error


def _agents(checkpoint: Checkpoint) -> int | None:
    """How many agents a checkpoint's ensemble has; None for a single agent."""
    log_std = checkpoint.part("policy").get("log_std")
    if log_std is None:
        raise UserError(
            f"{checkpoint.path} has a policy that is not gaussian. Train the offline stage with "
            "--offline.model.policy_distribution gaussian."
        )
    return log_std.shape[0] if log_std.dim() == 2 else None


def _stacked(given: Sequence[Checkpoint]) -> Checkpoint:
    state: dict[str, Tensor] = {}
    for part in _PARTS:
        agents = [checkpoint.part(part) for checkpoint in given]
        stacked = (
            stacked_policy(agents)
            if part == "policy"
            else {key: stacked_q([agent[key] for agent in agents]) for key in agents[0]}
        )
        state |= {PLACES[part] + key: value for key, value in stacked.items()}
    header = replace(given[0].header, parts={part: PLACES[part] for part in _PARTS})
    optimizer = _stacked_moments([checkpoint.optimizer for checkpoint in given])
    return replace(given[0], header=header, state_dict=state, optimizer=optimizer)


def stacked_q(values: Sequence[Tensor]) -> Tensor:
    """`N` times `[num_q, ...]` as `[num_q * N, ...]`."""
    return torch.stack(list(values), dim=1).flatten(0, 1)


def stacked_policy(policies: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """From the state dicts of Gaussian policies to that of an ensemble of them."""
    first = policies[0]
    stacked = {key: first[key] for key in ("action_low", "action_high")}
    stacked["log_std"] = torch.stack([policy["log_std"] for policy in policies])
    weights = [key for key in first if key.endswith(".weight")]
    for layer, key in enumerate(weights):
        bias = key.removesuffix("weight") + "bias"
        stacked[f"net.weights.{layer}"] = torch.stack([policy[key].mT for policy in policies])
        stacked[f"net.biases.{layer}"] = torch.stack([p[bias].unsqueeze(0) for p in policies])
    return stacked


def _stacked_moments(optimizers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Adam's state of the group `q`; empty where a checkpoint has none."""
    if not all(optimizers):
        return {}
    states = []
    for saved in optimizers:
        indices = {group["name"]: group["params"] for group in saved["param_groups"]}
        states.append([saved["state"][index] for index in indices["q"]])
    stacked = {}
    for index, members in enumerate(zip(*states, strict=True)):
        stacked[index] = {
            "step": torch.stack([state["step"] for state in members]).amin(),
            "exp_avg": stacked_q([state["exp_avg"] for state in members]),
            "exp_avg_sq": stacked_q([state["exp_avg_sq"] for state in members]),
        }
    return {"state": stacked, "param_groups": [{"name": "q", "params": list(stacked)}]}
