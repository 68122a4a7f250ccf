"""Checkpoints of ours: read safely, checked field by field, handed from offline to online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.files.torch_files import load_safely
from pex_lightning.version import __version__

CHECKPOINT_KEY = "pex_lightning"
CHECKPOINT_FORMAT = 1
HANDED_OVER = ("hidden_dims", "num_q", "gamma")
"""Hyper-parameters that a critic carries with it."""
HOW_NOT_WHAT = {"compile_update"}
"""Hyper-parameters that may change on resume: they say how to compute, not what."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself.

    Attributes:
        algorithm: Class name of the LightningModule, for example ``"IQL"``.
        data: Environment, dataset and reward transform.
        gradient_steps: Updates done so far.
        env_steps: Environment steps collected so far, 0 offline.
        version: Version of this package that wrote it.
    """

    algorithm: str
    data: DataDescription
    gradient_steps: int
    env_steps: int
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Primitives only."""
        return {
            "format": CHECKPOINT_FORMAT,
            "version": self.version,
            "algorithm": self.algorithm,
            "data": self.data.to_dict(),
            "gradient_steps": self.gradient_steps,
            "env_steps": self.env_steps,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], path: Path) -> CheckpointHeader:
        """Undo :meth:`to_dict`.

        Raises:
            UserError: The format is another one, or a field is missing or malformed.
        """
        if raw.get("format") != CHECKPOINT_FORMAT:
            raise UserError(
                f"{path} has checkpoint format {raw.get('format')!r} (written by pex-lightning "
                f"{raw.get('version')!r}); this version, {__version__}, reads format "
                f"{CHECKPOINT_FORMAT}. Read it with the version that wrote it, or train again."
            )
        try:
            return cls(
                algorithm=str(raw["algorithm"]),
                data=DataDescription.from_dict(raw["data"]),
                gradient_steps=int(raw["gradient_steps"]),
                env_steps=int(raw["env_steps"]),
                version=str(raw["version"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: the checkpoint's header is damaged or was altered "
                f"({type(error).__name__}: {error}). Take another checkpoint."
            ) from error


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours, in memory.

    Attributes:
        path: Where it was read from.
        header: What it says of itself.
        hyper_parameters: The constructor arguments of its LightningModule.
        state_dict: Its parameters and buffers.
        optimizer: State of its Adam as ``torch.optim`` writes it; empty if there is none.
        resumable: Whether it holds all that training needs to go on.
    """

    path: Path
    header: CheckpointHeader
    hyper_parameters: Mapping[str, Any]
    state_dict: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    resumable: bool

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The entries of the state dict under ``prefix``, without it.

        Raises:
            UserError: There are none.
        """
        found = {
            key.removeprefix(prefix): value
            for key, value in self.state_dict.items()
            if key.startswith(prefix)
        }
        if not found:
            raise UserError(
                f"{self.path} has no parameters under {prefix!r}: it is damaged or was altered. "
                "Take another checkpoint."
            )
        return found


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours without executing anything that it contains.

    Raises:
        UserError: The file is missing, damaged, unsafe, not ours, of another format version, or
            has non-finite parameters.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"checkpoint {path} does not exist. Finished runs keep theirs under "
            "runs/<name>/<stage>/checkpoints/."
        )
    raw = load_safely(path)
    header = raw.get(CHECKPOINT_KEY)
    state_dict = raw.get("state_dict")
    hyper_parameters = raw.get("hyper_parameters")
    if not isinstance(header, Mapping):
        raise UserError(
            f"{path} is a checkpoint, but not one of pex-lightning: it has no "
            f"{CHECKPOINT_KEY!r} entry. Give a file from runs/<name>/<stage>/checkpoints/."
        )
    if not isinstance(state_dict, Mapping) or not isinstance(hyper_parameters, Mapping):
        raise UserError(
            f"{path} lacks its parameters or hyper-parameters: it is damaged or was altered. "
            "Take another checkpoint."
        )
    for key, value in state_dict.items():
        if not isinstance(value, Tensor) or not torch.isfinite(value).all():
            raise UserError(
                f"{path}: parameter {key!r} is not a finite tensor. The run that wrote it "
                "diverged, or the file was altered. Take an earlier checkpoint."
            )
    optimizers = raw.get("optimizer_states") or [{}]
    return Checkpoint(
        path=path,
        header=CheckpointHeader.from_dict(header, path),
        hyper_parameters=hyper_parameters,
        state_dict=state_dict,
        optimizer=optimizers[0],
        resumable=all(raw.get(key) for key in ("optimizer_states", "loops")),
    )


def check_hand_over(
    checkpoint: Checkpoint,
    data: DataDescription,
    hyper_parameters: Mapping[str, Any],
) -> None:
    """Check that an offline checkpoint fits the online run that is to continue it.

    Args:
        checkpoint: The offline stage's checkpoint.
        data: The online run's environment, dataset and reward transform.
        hyper_parameters: The online module's; ``hidden_dims``, ``num_q`` and ``gamma`` count.

    Raises:
        UserError: It is of another stage, or a field differs; every differing field is named
            with both values.
    """
    found, path = checkpoint.header, checkpoint.path
    if found.algorithm != "IQL":
        raise UserError(
            f"{path} is a checkpoint of {found.algorithm}, but the hand-over needs one of the "
            "offline stage (IQL). To go on with an online run use --ckpt_path; to start one, "
            "give --offline.ckpt_path the offline stage's checkpoint."
        )
    pairs: list[tuple[str, object, object]] = [
        ("observation size", found.data.env.obs_dim, data.env.obs_dim),
        ("lower action bounds", found.data.env.action_low, data.env.action_low),
        ("upper action bounds", found.data.env.action_high, data.env.action_high),
        ("reward transform", found.data.reward, data.reward),
    ]
    for key in HANDED_OVER:
        theirs, ours = checkpoint.hyper_parameters.get(key), hyper_parameters.get(key)
        pairs.append((f"model.{key}", _plain(theirs), _plain(ours)))
    differing = [
        f"  {name}: {theirs} in the checkpoint, {ours} in this run"
        for name, theirs, ours in pairs
        if theirs != ours
    ]
    if differing:
        lines = "\n".join(differing)
        raise UserError(
            f"{path} does not fit this run:\n{lines}\n"
            "Change the run's settings to the checkpoint's, or train the offline stage again."
        )


def check_resume(
    checkpoint: Checkpoint, algorithm: str, hyper_parameters: Mapping[str, Any]
) -> None:
    """Check that a checkpoint continues a run of ``algorithm`` with these hyper-parameters.

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
    theirs, ours = dict(checkpoint.hyper_parameters), dict(hyper_parameters)
    differing = [
        f"  model.{key}: {theirs.get(key, 'absent')} in the checkpoint, "
        f"{ours.get(key, 'absent')} in this run"
        for key in sorted((theirs.keys() | ours.keys()) - HOW_NOT_WHAT)
        if _plain(theirs.get(key)) != _plain(ours.get(key))
    ]
    if differing:
        lines = "\n".join(differing)
        raise UserError(
            f"--ckpt_path {path} was trained with other hyper-parameters:\n{lines}\n"
            "Resume with the checkpoint's values, or start a new run with --run.name."
        )


def check_same_data(checkpoint: Checkpoint, data: DataDescription) -> None:
    """Check that a run goes on with the data that it began with.

    Raises:
        UserError: The environment, the dataset or the reward transform is another.
    """
    theirs, ours = checkpoint.header.data, data
    differing = [
        f"  {name}: {found} in the checkpoint, {given} in this run"
        for name, found, given in (
            ("data.env", theirs.env, ours.env),
            ("dataset's fingerprint", theirs.fingerprint, ours.fingerprint),
            ("reward transform", theirs.reward, ours.reward),
        )
        if found != given
    ]
    if differing:
        lines = "\n".join(differing)
        raise UserError(
            f"--ckpt_path {checkpoint.path} was trained on other data:\n{lines}\n"
            "Resume with the same data, or start a new run with --run.name."
        )


def _plain(value: object) -> object:
    """Lists and tuples compare equal."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
