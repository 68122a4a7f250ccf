"""What an online run experienced, out of its checkpoint, as a dataset to share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict

from pex_lightning.datasets.arrays import write_d4rl
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.errors import UserError
from pex_lightning.handover import CheckpointHeader, read_checkpoint
from pex_lightning.replay.store import Segment, read_segments
from pex_lightning.version import __version__

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation",),
    "actions": ("action",),
    "next_observations": ("next", "observation"),
    "rewards": ("next", "reward"),
    "terminals": ("next", "terminated"),
    "timeouts": ("next", "truncated"),
    "policy_index": ("policy_index",),
    "choice_probs": ("choice_probs",),
}


@dataclass(frozen=True)
class Experience:
    """The replay buffer of a run, all processes' rows one after the other, rewards raw.

    Attributes:
        checkpoint: The checkpoint it belongs to.
        header: What the checkpoint says of itself.
        observations: [N, obs_dim] float32.
        actions: [N, act_dim] float32.
        rewards: [N] float32.
        terminals: [N] bool.
        timeouts: [N] bool: the episode was truncated, or the next row does not continue it.
        next_observations: [N, obs_dim] float32, the true ones.
        policy_index: [N] int64, which member of the policy acted, by its place in
            `header.members`.
        choice_probs: [N, members] float32, with which probability each would have.
        cut: Episodes that end where the buffer or the run was cut, not by the environment.
        gone: Rows that were collected and had left the buffer before the checkpoint.
    """

    checkpoint: Path
    header: CheckpointHeader
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    next_observations: np.ndarray
    policy_index: np.ndarray
    choice_probs: np.ndarray
    cut: int
    gone: int

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def ends(self) -> np.ndarray:
        """[N] bool, the last row of each episode; the last row of all is one."""
        ends: np.ndarray = self.terminals | self.timeouts
        return ends

    def provenance(self) -> dict[str, str | int]:
        """Where the rows come from, as attributes of a file."""
        header = self.header
        return {
            "env_id": header.data.env.id,
            "env_kwargs": json.dumps(dict(header.data.env.kwargs)),
            "dataset": header.data.dataset,
            "dataset_fingerprint": header.data.fingerprint,
            "algorithm": header.algorithm,
            "members": ", ".join(header.members),
            "gradient_steps": header.gradient_steps,
            "env_steps": header.env_steps,
            "package_version": __version__,
        }


def read_experience(path: str | Path) -> Experience:
    """Read the replay buffer that belongs to a checkpoint of the online stage.

    Raw rewards are recovered by the inverse of the run's reward transform: exactly those of the
    environment for `identity`, and for `subtract_one` where rewards are whole numbers; else up to
    float32's rounding. Where a resume or the end of a process's rows cut an episode, its last row
    is marked by a time-out, so that no row is linked to one of another episode. The first episode
    may lack its beginning, if the buffer had filled up.

    Args:
        path: The checkpoint; the folder `replay` must lie beside it.

    Raises:
        UserError: It is not a checkpoint of ours, has no replay buffer, or a part of the buffer is
            missing or damaged.
    """
    checkpoint = read_checkpoint(path)
    header = checkpoint.header
    manifest = _manifest(checkpoint.data_state, checkpoint.path)
    ranks = []
    for rank, segments in enumerate(manifest):
        folder = checkpoint.path.parent / "replay" / f"rank-{rank}"
        try:
            rows = read_segments(folder, segments)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = f"its parts in {folder} do not fit together"
            raise _damaged(checkpoint.path, reason) from error
        if rows is not None:
            ranks.append(_columns(rows, header, checkpoint.path))
    if not ranks:
        raise UserError(
            f"{checkpoint.path}: its replay buffer is empty, so there is nothing to export. Take a "
            "later checkpoint of the run."
        )
    columns = {key: np.concatenate([rank[key] for rank in ranks]) for key in ranks[0]}
    cut = int(columns.pop("cut").sum())
    gone = sum(segments[0].start for segments in manifest if segments)
    return Experience(checkpoint.path, header, **columns, cut=cut, gone=gone)


def export_d4rl(experience: Experience, path: str | PathLike[str], *, overwrite: bool) -> Path:
    """Write experience as a file in D4RL's layout, with `next_observations`.

    Beside D4RL's keys it has `infos/policy_index` and `infos/choice_probs`, and attributes that
    say where it comes from (`Experience.provenance`). `read_d4rl` gives the same transitions.

    Returns:
        The file, absolute.

    Raises:
        UserError: The file exists and `overwrite` is not set, or it cannot be written.
    """
    path = Path(path).expanduser().absolute()
    if path.exists() and not overwrite:
        raise UserError(f"--out {path} exists. Give another name, or --overwrite to replace it.")
    write_d4rl(
        path,
        observations=experience.observations,
        actions=experience.actions,
        rewards=experience.rewards,
        terminals=experience.terminals,
        timeouts=experience.timeouts,
        next_observations=experience.next_observations,
        infos={
            "policy_index": experience.policy_index,
            "choice_probs": experience.choice_probs,
        },
        attributes=experience.provenance(),
    )
    return path


def _manifest(state: object, path: Path) -> list[list[Segment]]:
    """The segments of each process.

    Raises:
        UserError: There are none, or they do not follow on each other.
    """
    if not isinstance(state, Mapping):
        raise UserError(
            f"{path} has no replay buffer: it is of the offline stage, which collects nothing. "
            "Give a checkpoint of the online stage, runs/<name>/online/checkpoints/last.ckpt."
        )
    raw = state.get("replay")
    if raw is None:
        raise UserError(
            f"{path} was saved without its replay buffer. Take last.ckpt or best.ckpt of the run."
        )
    try:
        manifest = [[Segment.from_dict(segment) for segment in segments] for segments in raw]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"the list of its parts cannot be read ({error})") from error
    for segments in manifest:
        for before, after in itertools.pairwise(segments):
            if before.stop != after.start:
                raise _damaged(path, f"rows {before.stop} to {after.start} are missing")
    return manifest


def _columns(rows: TensorDict, header: CheckpointHeader, path: Path) -> dict[str, np.ndarray]:
    """The rows of one process by our names, and which of them end an episode by a cut."""
    columns = {key: rows.get(place, None) for key, place in _COLUMNS.items()}
    missing = [key for key, value in columns.items() if not isinstance(value, torch.Tensor)]
    if missing:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    found = {key: value.numpy() for key, value in columns.items()}
    size, env = rows.shape[0], header.data.env
    shapes: dict[str, Sequence[int]] = dict.fromkeys(found, (size,))
    shapes |= dict.fromkeys(("observations", "next_observations"), (size, env.obs_dim))
    shapes |= {"actions": (size, env.action_dim), "choice_probs": found["choice_probs"].shape}
    for key, shape in shapes.items():
        if found[key].size != np.prod(shape):
            raise _damaged(path, f"{key} have shape {list(found[key].shape)}, expected {shape}")
        found[key] = found[key].reshape(shape)
    found["rewards"] = _raw_rewards(found["rewards"], header.data.reward)
    truncated, terminals = found["timeouts"], found["terminals"]
    same = (found["next_observations"][:-1] == found["observations"][1:]).all(axis=1)
    continues = np.append(same, False)
    # A terminal is enough to end an episode; D4RL's rule drops rows with a time-out.
    found["timeouts"] = (truncated | ~continues) & ~terminals
    found["cut"] = found["timeouts"] & ~truncated
    return found


def _raw_rewards(rewards: np.ndarray, transform: RewardTransform) -> np.ndarray:
    # In double precision, so that only what float32 lost before is missing.
    raw: np.ndarray = transform.inverse(rewards.astype(np.float64)).astype(np.float32)
    return raw


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: its replay buffer is damaged or was altered: {reason}. Take another checkpoint."
    )
