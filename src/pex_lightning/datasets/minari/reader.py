"""Reader of Minari's datasets."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.dataset import Dataset, DatasetInfo
from pex_lightning.datasets.minari.environment import minari_environment, minari_notes
from pex_lightning.datasets.minari.episodes import (
    Episode,
    Part,
    action_part,
    observation_parts,
    open_episodes,
)
from pex_lightning.datasets.minari.store import REPAIR, MinariMetadata, ensure_minari, read_metadata
from pex_lightning.datasets.rows import episode_statistics
from pex_lightning.datasets.transitions import Transitions
from pex_lightning.errors import UserError, in_one_line, shortened

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

__all__ = ["ensure_minari", "minari_environment", "minari_notes", "read_minari"]


def read_minari(dataset_id: str, *, spec: EnvSpec | None = None) -> Dataset:
    """Read all steps of a Minari dataset.

    An episode of T steps has T + 1 observations, so every step has its true next observation.
    `terminated` comes from `terminations` alone; `truncated` marks steps with `truncations` and the
    last step of an episode, unless they terminated. Rewards are raw; actions are clipped by
    `Transitions.clip_actions_`. If the dataset does not say its spaces, those of `spec` are taken.
    Episodes that neither terminate nor truncate contribute their steps
    but do not count as complete.

    Dict observations are flattened like those of `make_env`, in the order of `spec.obs_keys`: for
    goal environments achieved goal, observation, desired goal, where mazes with a single goal cell
    omit the desired goal. Without `spec`, the order is that of `GOAL_KEYS` if there are no other
    keys, else alphabetical.

    Nothing in the dataset is executed and no module that it names is imported. Memory: the
    transitions and up to 32 MiB.

    Args:
        dataset_id: The dataset's id without `minari:`. A missing dataset is downloaded.
        spec: The environment that the policy will act in. Without it, actions must lie in the
            dataset's own action space.

    Raises:
        UserError: The dataset cannot be fetched or read, has observations that are not numeric
            Boxes, discrete actions, bad values or a damaged episode, or does not fit the
            environment.
    """
    ensure_minari(dataset_id)
    metadata = read_metadata(dataset_id)
    parts = observation_parts(metadata, spec)
    actions = action_part(metadata, spec)
    sizes = sum(part.width for part in parts), actions.width
    if spec is not None:
        _check_sizes(sizes, spec, metadata)
    rows = _Rows(metadata, *sizes)
    filled = 0
    with open_episodes(metadata, parts) as episodes:
        for episode in episodes:
            try:
                filled = rows.add(filled, episode, parts, actions)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"{episode.source}: cannot be read to its end ({shortened(str(error))}). "
                    f"{REPAIR}"
                ) from error
    rows.check_full(filled)
    return rows.dataset(spec)


class _Rows:
    """Steps of all episodes, one after the other; `last` marks the last step of each."""

    def __init__(self, metadata: MinariMetadata, obs_dim: int, action_dim: int) -> None:
        self.metadata = metadata
        size = metadata.total_steps
        try:
            self.observation = np.empty((size, obs_dim), dtype=np.float32)
            self.next_observation = np.empty((size, obs_dim), dtype=np.float32)
            self.action = np.empty((size, action_dim), dtype=np.float32)
            self.reward = np.empty(size, dtype=np.float32)
            self.termination = np.empty(size, dtype=np.bool_)
            self.truncation = np.empty(size, dtype=np.bool_)
            self.last = np.zeros(size, dtype=np.bool_)
        except (MemoryError, ValueError) as error:
            raise UserError(
                f"{metadata.source}: its {size} steps of {obs_dim} observed numbers do not fit "
                f"into memory. Take a smaller dataset, or check {metadata.folder}/metadata.json."
            ) from error

    def add(self, start: int, episode: Episode, parts: Sequence[Part], actions: Part) -> int:
        """Append an episode and return the row at which the next one starts."""
        episode.check(parts, actions)
        stop = start + len(episode.rewards)
        if stop > len(self.reward):
            self.check_full(stop)
        at = 0
        for column, part in zip(episode.observations, parts, strict=True):
            self._observe(start, stop, slice(at, at + part.width), column)
            at += part.width
        for first, block in episode.actions.blocks():
            self.action[start + first : start + first + len(block)] = block
        self.reward[start:stop] = episode.rewards.vector()
        self.termination[start:stop] = episode.terminations.flags()
        self.truncation[start:stop] = episode.truncations.flags()
        self.last[start:stop][-1:] = True
        return stop

    def _observe(self, start: int, stop: int, width: slice, column: Column) -> None:
        """Store T + 1 observations: rows 0 to T - 1 as observations, 1 to T as next ones."""
        here, following = self.observation[start:stop, width], self.next_observation[start:stop]
        following = following[:, width]
        for first, block in column.blocks():
            space = here[first : first + len(block)]
            space[:] = block[: len(space)]
            late = block[1:] if first == 0 else block
            place = max(first - 1, 0)
            following[place : place + len(late)] = late

    def check_full(self, filled: int) -> None:
        expected = len(self.reward)
        if filled != expected or expected == 0:
            hint = (
                " Minari 0.5 loses the end of episodes of 32,768 steps and more that are not kept "
                "as hdf5."
            )
            hint = "" if self.metadata.data_format == "hdf5" else hint
            raise UserError(
                f"{self.metadata.source}: found {'more' if filled > expected else filled} steps in "
                f"{self.metadata.total_episodes} episodes, expected {expected or 'some'} as "
                f"{self.metadata.folder}/metadata.json says. {REPAIR}{hint}"
            )

    def dataset(self, spec: EnvSpec | None) -> Dataset:
        metadata, digest = self.metadata, hashlib.sha256()
        # The order of `read_rows`, so that equal rows in a D4RL file have the same fingerprint.
        inputs = self.observation, self.next_observation, self.action
        for values in (*inputs, self.reward, self.termination, self.truncation):
            digest.update(values.data)
        transitions = Transitions.from_tensors(
            observation=torch.from_numpy(self.observation),
            action=torch.from_numpy(self.action),
            next_observation=torch.from_numpy(self.next_observation),
            reward=torch.from_numpy(self.reward),
            terminated=torch.from_numpy(self.termination),
            truncated=torch.from_numpy((self.truncation | self.last) & ~self.termination),
            source=metadata.source,
        )
        _fit_actions(transitions, metadata, spec)
        ends = self.termination | self.truncation
        returns, lengths = episode_statistics(self.reward, ends | self.last)
        complete = ends[ends | self.last]
        info = DatasetInfo(
            name=metadata.source,
            path=metadata.dataset_id,
            fingerprint=digest.hexdigest()[:16],
            rows=len(transitions),
            transitions=len(transitions),
            episodes=int(complete.sum()),
            terminals=int(self.termination.sum()),
            timeouts=int(self.truncation.sum()),
            origin="minari",
        )
        return Dataset(transitions, info, returns[complete], lengths[complete])


def _check_sizes(sizes: tuple[int, int], spec: EnvSpec, metadata: MinariMetadata) -> None:
    expected = spec.obs_dim, spec.action_dim
    for name, ours, theirs in zip(("observations", "actions"), sizes, expected, strict=True):
        if ours != theirs:
            raise UserError(
                f"{metadata.source}: its {name} have {ours} numbers, those of environment "
                f"{spec.id} have {theirs}. Take the environment that the data were recorded in "
                "(--data.env, --data.env_kwargs), or another dataset (--data.path)."
            )


def _fit_actions(transitions: Transitions, metadata: MinariMetadata, spec: EnvSpec | None) -> None:
    if spec is not None:
        low, high, space = spec.action_low, spec.action_high, f"environment {spec.id}"
    else:
        low, high = (_bound(metadata, end, transitions.action_dim) for end in ("low", "high"))
        if any(map(operator.gt, low, high)):
            raise UserError(
                f"{metadata.source}: 'low' is above 'high' in its action space. {REPAIR}"
            )
        space = f"{metadata.source} itself"
    transitions.check_actions(low, high, space=space)
    transitions.clip_actions_(low, high)


def _bound(metadata: MinariMetadata, end: str, size: int) -> tuple[float, ...]:
    try:
        assert metadata.action_space is not None
        values = np.broadcast_to(np.asarray(metadata.action_space[end], dtype=np.float64), (size,))
        if np.isnan(values).any():
            raise ValueError(f"'{end}' has NaN")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{metadata.source}: the bounds of its action space are damaged "
            f"({shortened(in_one_line(error))}). {REPAIR}"
        ) from error
    return tuple(values.tolist())
