"""Whether a checkpoint fits the run that takes over from it, or goes on with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.handover.checkpoint import Checkpoint, Part

CRITIC_PARTS: frozenset[Part] = frozenset(("q", "target", "v"))
CRITIC_SETTINGS = {"hidden_dims": None, "num_q": None, "gamma": None, "layer_norm": False}
"""Hyper-parameters that a critic carries with it, and what they were before they were settings."""
FREE_ON_RESUME = {"compile_update"}
"""Hyper-parameters that say how updates are executed and not what they compute."""


def check_hand_over(
    checkpoint: Checkpoint,
    data: DataDescription,
    takes: Collection[Part],
    hyper_parameters: Mapping[str, Any],
) -> None:
    """Check that an offline checkpoint fits the online run that is to continue it.

    What is not taken over is not compared: the sizes of a policy may differ, those of a critic
    only where no part of it is taken over.

    Args:
        checkpoint: The offline stage's checkpoint.
        data: The online run's environment, dataset and reward transform.
        takes: The parts that are taken over.
        hyper_parameters: The online module's.

    Raises:
        UserError: It is of another stage, lacks a part, or a field differs; every differing field
            is named with both values.
    """
    found, path = checkpoint.header, checkpoint.path
    if found.stage != "offline":
        raise UserError(
            f"{path} is a checkpoint of {found.algorithm} in the online stage, but the hand-over "
            "needs one of the offline stage. To go on with an online run use --ckpt_path; to "
            "start one, give --offline.ckpt_path the offline stage's checkpoint."
        )
    # Without its moments Adam starts afresh, which is told then.
    lacking = sorted(set(takes) - found.parts.keys() - {"moments"})
    if lacking:
        raise UserError(
            f"{path} is a checkpoint of {found.algorithm} without {', '.join(lacking)}, which this "
            f"run takes over; it has {', '.join(found.parts)}. Train the offline stage with a "
            "method that learns them."
        )
    pairs = _env_pairs(checkpoint, data)
    if CRITIC_PARTS & set(takes):
        pairs.append(("reward transform", found.data.reward, data.reward))
        for key, before in CRITIC_SETTINGS.items():
            theirs = checkpoint.hyper_parameters.get(key, before)
            ours = hyper_parameters.get(key, before)
            pairs.append((f"model.{key}", _plain(theirs), _plain(ours)))
    differing = _differing(pairs)
    if differing:
        raise UserError(
            f"{path} does not fit this run:\n{differing}\n"
            "Change the run's settings to the checkpoint's, or train the offline stage again."
        )


def check_member(checkpoint: Checkpoint, data: DataDescription) -> None:
    """Check that a checkpoint's policy can act in a run's environment; its stage is no matter.

    Raises:
        UserError: It has no policy, or the sizes or action bounds differ.
    """
    differing = _differing(_env_pairs(checkpoint, data))
    if differing:
        raise UserError(
            f"--model.members: {checkpoint.path} does not fit this run:\n{differing}\n"
            "Take a policy of the same environment."
        )
    checkpoint.part("policy")


def _env_pairs(checkpoint: Checkpoint, data: DataDescription) -> list[tuple[str, object, object]]:
    theirs, ours = checkpoint.header.data.env, data.env
    return [
        ("observation size", theirs.obs_dim, ours.obs_dim),
        ("lower action bounds", theirs.action_low, ours.action_low),
        ("upper action bounds", theirs.action_high, ours.action_high),
    ]


def check_resume(
    checkpoint: Checkpoint,
    algorithm: str,
    hyper_parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Check that a checkpoint continues a run of `algorithm` with these hyper-parameters.

    Args:
        checkpoint: The checkpoint.
        algorithm: What the method of this run is called.
        hyper_parameters: Those of this run.
        defaults: Values of those that the checkpoint's version may not have had.

    Raises:
        UserError: The class or a hyper-parameter differs; every difference is named.
    """
    path = checkpoint.path
    if checkpoint.header.algorithm != algorithm:
        raise UserError(
            f"--ckpt_path {path} is a checkpoint of {checkpoint.header.algorithm}, but this "
            f"stage trains {algorithm}. Give a checkpoint of {algorithm}, or to start from an "
            "offline checkpoint use --offline.ckpt_path."
        )
    if not checkpoint.resumable:
        raise UserError(
            f"--ckpt_path {path} holds a policy, but not the state of its training: it was saved "
            "without it, or was altered. Resume from last.ckpt or best.ckpt of a run."
        )
    # A hyper-parameter that came later makes no difference while it has its default.
    theirs = {**defaults, **checkpoint.hyper_parameters}
    ours = dict(hyper_parameters)
    differing = _differing(
        (f"model.{key}", _plain(theirs.get(key, "absent")), _plain(ours.get(key, "absent")))
        for key in sorted((checkpoint.hyper_parameters.keys() | ours.keys()) - FREE_ON_RESUME)
    )
    if differing:
        raise UserError(
            f"--ckpt_path {path} was trained with other hyper-parameters:\n{differing}\n"
            "Resume with the checkpoint's values, or start a new run with --run.name."
        )


def check_same_data(checkpoint: Checkpoint, data: DataDescription) -> None:
    """Check that a run goes on with the data that it began with.

    Raises:
        UserError: The environment, the dataset or the reward transform is another.
    """
    theirs, ours = checkpoint.header.data, data
    differing = _differing(
        (
            ("data.env", theirs.env, ours.env),
            ("dataset's fingerprint", theirs.fingerprint, ours.fingerprint),
            ("reward transform", theirs.reward, ours.reward),
        )
    )
    if differing:
        raise UserError(
            f"--ckpt_path {checkpoint.path} was trained on other data:\n{differing}\n"
            "Resume with the same data, or start a new run with --run.name."
        )


def _differing(pairs: Iterable[tuple[str, object, object]]) -> str:
    """A line for every name whose value in the checkpoint is not the run's."""
    return "\n".join(
        f"  {name}: {theirs} in the checkpoint, {ours} in this run"
        for name, theirs, ours in pairs
        if theirs != ours
    )


def _plain(value: object) -> object:
    """Lists and tuples compare equal."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
