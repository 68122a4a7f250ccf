"""The experience of an online run, read from its checkpoint and exported in D4RL's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from tensordict import TensorDict

from pex_lightning.datasets.arrays import write_d4rl
from pex_lightning.errors import UserError
from pex_lightning.handover import CheckpointHeader, read_checkpoint
from pex_lightning.replay.layout import RowSizes
from pex_lightning.replay.store import read_manifest, read_segments
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
    """The replay buffer of a run, with the rows of all processes concatenated.

    Attributes:
        checkpoint: Path of the checkpoint.
        header: Header of the checkpoint.
        observations: [N, obs_dim] float32.
        actions: [N, act_dim] float32.
        rewards: [N] float32, raw.
        terminals: [N] bool.
        timeouts: [N] bool: the episode was truncated, or the next row does not continue it.
        next_observations: [N, obs_dim] float32, true ones also at the end of an episode.
        policy_index: [N] int64, index in `header.members` of the policy member that acted.
        choice_probs: [N, members] float32, probability of each member to be chosen.
        cut: Number of episodes ended by the buffer or the run instead of the environment.
        gone: Number of rows that left the buffer before the checkpoint.
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
        """[N] bool, the last row of each episode, always true for row N - 1."""
        ends: np.ndarray = self.terminals | self.timeouts
        return ends

    def provenance(self) -> dict[str, str | int]:
        """Return the origin of the rows, as attributes for a file."""
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

    Raw rewards are computed by the inverse of the run's reward transform. They are exact for
    `identity`, and for `subtract_one` with integer rewards; else they have float32's rounding
    errors. An episode that was cut by a resume or by the end of a process's rows gets a time-out
    on its last row, to separate it from the next episode. If rows have left the buffer, the first
    episode may lack its beginning.

    Args:
        path: The checkpoint, next to the folder `replay`.

    Raises:
        UserError: The file is not a checkpoint of this package, has no replay buffer, or a part of
            the buffer is missing or damaged.
    """
    checkpoint = read_checkpoint(path)
    header = checkpoint.header
    if checkpoint.data_state is None:
        raise UserError(
            f"{checkpoint.path} has no replay buffer: it is of the offline stage, which collects "
            "nothing. Give a checkpoint of the online stage, "
            "runs/<name>/online/checkpoints/last.ckpt."
        )
    manifest = read_manifest(checkpoint.data_state, checkpoint.path)
    sizes = RowSizes.of(header.data.env, header.members)
    ranks = []
    for rank, segments in enumerate(manifest):
        folder = checkpoint.path.parent / "replay" / f"rank-{rank}"
        rows = read_segments(folder, segments, sizes)
        if rows is not None:
            ranks.append(_columns(rows, header))
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
    """Write experience to a file in D4RL's layout, with `next_observations`.

    Further columns are `infos/policy_index` and `infos/choice_probs`; the attributes are those of
    `Experience.provenance`. `read_d4rl` reads the same transitions.

    Returns:
        The absolute path of the file.

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
        overwrite=overwrite,
    )
    return path


def _columns(rows: TensorDict, header: CheckpointHeader) -> dict[str, np.ndarray]:
    """Return the rows of one process by their names in `Experience`; `cut` marks cut episodes."""
    found = {key: rows.get(place).numpy() for key, place in _COLUMNS.items()}
    for key in ("rewards", "terminals", "timeouts"):
        found[key] = found[key][:, 0]
    # Computed in float64, to add no further rounding errors.
    raw_rewards = header.data.reward.inverse(found["rewards"].astype(np.float64))
    found["rewards"] = raw_rewards.astype(np.float32)
    truncated, terminals = found["timeouts"], found["terminals"]
    same = (found["next_observations"][:-1] == found["observations"][1:]).all(axis=1)
    continues = np.append(same, False)
    # No time-out on terminal rows, which D4RL's rule would drop.
    found["timeouts"] = (truncated | ~continues) & ~terminals
    found["cut"] = found["timeouts"] & ~truncated
    return found
