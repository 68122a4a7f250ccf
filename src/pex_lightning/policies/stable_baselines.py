"""Policies that stable-baselines3 saved, read without its package and without its pickles."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.policies.feed_forward import ACTIVATIONS, FeedForwardPolicy
from pex_lightning.policies.member_entry import MemberEntry
from pex_lightning.policies.outside import read_member, reason

_LAYERS = {
    # PPO and A2C, whose actions are clipped; SAC; TD3 and DDPG.
    "action_net.weight": (r"mlp_extractor\.policy_net\.(\d+)\.", "action_net.", "Tanh", False),
    "actor.mu.weight": (r"actor\.latent_pi\.(\d+)\.", "actor.mu.", "ReLU", True),
    "actor.mu.0.weight": (r"actor\.mu\.(\d+)\.", "", "ReLU", True),
}
"""By a key of the state dict: hidden layers, last layer, activation by default, and squashing."""


def read_stable_baselines(entry: MemberEntry, env: EnvSpec) -> FeedForwardPolicy:
    """The policy in a file of stable-baselines3: of PPO, A2C, SAC, TD3 or DDPG with `MlpPolicy`.

    Args:
        entry: What the user names.
        env: The environment's sizes and action bounds.

    Raises:
        UserError: It is no such file, or its policy is of another kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_member(entry))) as archive:
            settings = json.loads(archive.read("data"))
            content = io.BytesIO(archive.read("policy.pth"))
        state: Mapping[str, Tensor] = torch.load(content, "cpu", weights_only=True)
        return _policy(state, settings, env)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--model.members: {entry.path} cannot be read as a file of stable-baselines3: "
            f"{reason(error)}. Read are PPO, A2C, SAC, TD3 and DDPG with MlpPolicy; wrap "
            "another policy's `predict` into a function, and give that as module:function."
        ) from error


def _policy(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], env: EnvSpec
) -> FeedForwardPolicy:
    if settings.get("use_sde"):
        raise ValueError("it explores with gSDE (use_sde)")
    kind = next((key for key in _LAYERS if key in state), None)
    if kind is None or any("features_extractor" in key for key in state):
        raise ValueError("its network is no plain perceptron of actions")
    hidden, last, default, squashed = _LAYERS[kind]
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.match(hidden, key)
        if match:
            found[f"net.{match[1]}.{key[match.end() :]}"] = value.float()
    if last:
        number = len(found)
        for name in ("weight", "bias"):
            found[f"net.{number}.{name}"] = state[last + name].float()
    weights = [value for key, value in found.items() if key.endswith(".weight")]
    for what, theirs, ours in (
        ("takes observations", weights[0].shape[1], env.obs_dim),
        ("gives actions", weights[-1].shape[0], env.action_dim),
    ):
        if theirs != ours:
            raise ValueError(f"it {what} of size {theirs}, this run's have {ours}")
    if not all(value.isfinite().all() for value in found.values()):
        raise ValueError("its parameters are not finite")
    names = [activation.__name__ for activation in ACTIVATIONS]
    low, high = (torch.tensor(x, dtype=torch.float32) for x in (env.action_low, env.action_high))
    policy = FeedForwardPolicy(
        [weights[0].shape[1], *(weight.shape[0] for weight in weights)],
        low.tolist(),
        high.tolist(),
        names.index(_activation(settings) or default),
        squashed,
    )
    policy.net.load_state_dict({key.removeprefix("net."): value for key, value in found.items()})
    _check_bounds(settings, env)
    return policy


def _activation(settings: Mapping[str, Any]) -> str | None:
    """The name of the class that the file's settings tell in words, if they tell one."""
    kwargs = settings.get("policy_kwargs") or {}
    match = re.fullmatch(r"<class '[\w.]*\.(\w+)'>", str(kwargs.get("activation_fn", "")))
    if match is None and "activation_fn" in kwargs:
        raise ValueError(f"its activation is {kwargs['activation_fn']!r:.100}")
    return match[1] if match else None


def _check_bounds(settings: Mapping[str, Any], env: EnvSpec) -> None:
    """Refuse other action bounds, as far as the file tells them in words."""
    space = settings.get("action_space") or {}
    for name, ours in (("low", env.action_low), ("high", env.action_high)):
        words = str(space.get(name, "")).strip("[] ")
        if not words or "..." in words:
            continue
        theirs = [float(word) for word in words.split()]
        theirs = theirs * len(ours) if len(theirs) == 1 else theirs
        if len(theirs) != len(ours) or not np.allclose(theirs, ours, rtol=1e-4, atol=1e-4):
            raise ValueError(f"its action_space has {name} {theirs}, this run's has {list(ours)}")
