"""The kinds of policies, by name and by what a checkpoint holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.nn.squashed import SquashedGaussianPolicy

Distribution = Literal["gaussian", "squashed_gaussian"]

AnyPolicy = GaussianPolicy | SquashedGaussianPolicy

DISTRIBUTIONS: dict[Distribution, type[AnyPolicy]] = {
    "gaussian": GaussianPolicy,
    "squashed_gaussian": SquashedGaussianPolicy,
}


def policy_from_state(state: Mapping[str, Tensor]) -> AnyPolicy:
    """The policy that a state dict describes, with its sizes, bounds and parameters.

    Raises:
        KeyError, RuntimeError, ValueError: It is the state dict of no such policy.
    """
    kind = DISTRIBUTIONS[_distribution(state)]
    weights = [value for key, value in state.items() if key.endswith(".weight")]
    policy = kind(
        obs_dim=weights[0].shape[1],
        action_low=state["action_low"].tolist(),
        action_high=state["action_high"].tolist(),
        hidden_dims=[weight.shape[0] for weight in weights[:-1]],
    )
    policy.load_state_dict(dict(state))
    return policy


def take_policy(policy: AnyPolicy, state: Mapping[str, Tensor]) -> None:
    """Give a policy the parameters of a state dict.

    Raises:
        RuntimeError: The sizes differ.
        ValueError: It is of another distribution.
    """
    theirs = _distribution(state)
    if not isinstance(policy, DISTRIBUTIONS[theirs]):
        ours = next(name for name, kind in DISTRIBUTIONS.items() if isinstance(policy, kind))
        raise ValueError(
            f"model.policy_distribution: {theirs} in the checkpoint, {ours} in this run"
        )
    policy.load_state_dict(dict(state))


def _distribution(state: Mapping[str, Tensor]) -> Distribution:
    # Only the squashed one computes its deviation from the observation.
    return "gaussian" if "log_std" in state else "squashed_gaussian"
