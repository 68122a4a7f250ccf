"""What a checkpoint of ours consists of, and how it is read without executing any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.files.torch_files import load_safely
from pex_lightning.version import __version__

CHECKPOINT_KEY = "pex_lightning"
CHECKPOINT_FORMAT = 2
_LONGEST_NAME = 200
_COUNTERS = {"ready", "started", "processed", "completed", "_batches_that_stepped"}
DATA_STATE_KEY = "data_state"

Stage = Literal["offline", "online"]
Part = Literal["q", "target", "v", "policy", "moments", "temperature"]
"""What a checkpoint can hand over: Q, its target, V, a policy, Adam's moments, SAC's weight."""

PLACES: Mapping[Part, str] = {
    "q": "critic.q_net.",
    "target": "critic.target_q_net.",
    "v": "critic.v_net.",
    "policy": "policy.",
}
"""Under which prefix of a state dict a part lies, unless a method says otherwise."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself.

    Attributes:
        algorithm: The method, such as `"IQL"`; a user's own with its module, `"mine.Method"`.
        stage: `offline`, or `online` where an environment was stepped.
        parts: Which parts there are, with their prefixes in the state dict.
        members: Names of the policies that act, in the order of `policy_index`.
        data: Environment, dataset and reward transform.
        gradient_steps: Updates done so far.
        env_steps: Environment steps collected so far, 0 offline.
        version: Version of this package that wrote it.
    """

    algorithm: str
    stage: Stage
    parts: Mapping[Part, str]
    members: tuple[str, ...]
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
            "stage": self.stage,
            "parts": dict(self.parts),
            "members": list(self.members),
            "data": self.data.to_dict(),
            "gradient_steps": self.gradient_steps,
            "env_steps": self.env_steps,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], path: Path) -> CheckpointHeader:
        """Undo `to_dict`.

        Raises:
            UserError: The format is another one, or a field is missing or malformed.
        """
        if raw.get("format") != CHECKPOINT_FORMAT:
            raise UserError(
                f"{path} has checkpoint format {raw.get('format')!r:.40} (written by pex-lightning "
                f"{raw.get('version')!r:.40}); this version, {__version__}, reads formats up to "
                f"{CHECKPOINT_FORMAT}. Read it with the version that wrote it, or train again."
            )
        try:
            return cls(
                algorithm=_name(raw["algorithm"]),
                stage=_one_of(raw["stage"], get_args(Stage)),
                parts={_one_of(k, get_args(Part)): str(v) for k, v in raw["parts"].items()},
                members=tuple(_name(name) for name in raw["members"]),
                data=DataDescription.from_dict(raw["data"]),
                gradient_steps=int(raw["gradient_steps"]),
                env_steps=int(raw["env_steps"]),
                version=_name(raw["version"]),
            )
        except UserError as error:
            raise UserError(f"{path}: {shortened(str(error), 500)}") from error
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise UserError(
                f"{path}: the checkpoint's header is damaged or was altered "
                f"({shortened(in_one_line(error), 300)}). Take another checkpoint."
            ) from error


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours, in memory.

    Attributes:
        path: Where it was read from.
        header: What it says of itself.
        hyper_parameters: The constructor arguments of its LightningModule.
        state_dict: Its parameters and buffers.
        optimizer: State of its Adam as `torch.optim` writes it; empty if there is none.
        data_state: What its data module keeps for a resume; None if it has nothing to keep.
        resumable: Whether it holds all that training needs to go on.
    """

    path: Path
    header: CheckpointHeader
    hyper_parameters: Mapping[str, Any]
    state_dict: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    data_state: Mapping[str, Any] | None
    resumable: bool

    def part(self, part: Part) -> dict[str, Tensor]:
        """The state dict of a part.

        Raises:
            UserError: The checkpoint has no such part.
        """
        if part not in self.header.parts:
            raise UserError(
                f"{self.path}, a checkpoint of {self.header.algorithm}, has no part {part!r}; it "
                f"has {', '.join(self.header.parts)}. Take one of a method that learns it."
            )
        return self.under(self.header.parts[part])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The entries of the state dict under `prefix`, without it.

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


def parts_of(checkpoint: Mapping[str, Any], places: Mapping[Part, str]) -> dict[Part, str]:
    """Which parts a checkpoint, as Lightning writes it, has, with their prefixes."""
    found: dict[Part, str] = {
        part: prefix
        for part, prefix in places.items()
        if any(key.startswith(prefix) for key in checkpoint["state_dict"])
    }
    return found | {"moments": ""} if checkpoint.get("optimizer_states") else found


_OLD_DATA_STATE = {"collected", "replay", "statistics"}


def migrate(raw: dict[str, Any]) -> None:
    """Bring a checkpoint of an older format, as `torch.load` gives it, to today's, in place.

    Format 1 (version 0.1.0) did not say its stage, parts and members, kept the data module's state
    under the class name `OnlineData`, and the admission of the learning policy in the policy set.
    What is damaged is left as it is, for `read_checkpoint` to refuse.
    """
    header, state_dict = raw.get(CHECKPOINT_KEY), raw.get("state_dict")
    if not isinstance(header, dict) or header.get("format") != 1:
        return
    if not isinstance(state_dict, dict):
        return
    # Under the data module's class name: a user's own class may have another than OnlineData.
    states = [k for k, v in raw.items() if isinstance(v, dict) and v.keys() == _OLD_DATA_STATE]
    raw[DATA_STATE_KEY] = raw.pop(states[0]) if states else None
    for key in [key for key in state_dict if key == "policies.admission"]:
        state_dict["admission.share"] = state_dict.pop(key)
    composite = any(key.startswith("policies.learner.") for key in state_dict)
    places = {**PLACES, "policy": "policies.learner." if composite else "policy."}
    header["stage"] = "online" if states or header.get("env_steps") else "offline"
    header["parts"] = parts_of(raw, places)
    header["members"] = ["offline", "online"] if composite else ["policy"]
    header["format"] = CHECKPOINT_FORMAT
    if isinstance(raw.get("hyper_parameters"), dict):
        raw["hyper_parameters"].setdefault("cosine_decay", False)


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
    migrate(raw)
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
        data_state=raw.get(DATA_STATE_KEY),
        resumable=all(raw.get(key) for key in ("optimizer_states", "loops"))
        and _counts(raw.get("loops")),
    )


def _counts(loops: object) -> bool:
    """Whether what Lightning's loops count are numbers; it looks at them in the first update."""
    if not isinstance(loops, Mapping):
        return True
    return all(
        type(value) is int and value >= 0 if key in _COUNTERS else _counts(value)
        for key, value in loops.items()
    )


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise ValueError(f"expected a name, found {value!r:.40}")
    return value


def _one_of(value: object, known: Sequence[Any]) -> Any:
    if value not in known:
        raise ValueError(f"expected one of {known}, found {value!r:.40}")
    return value
