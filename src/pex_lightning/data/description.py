"""The description of a run's data, which checkpoints store and a hand-over compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pex_lightning.d4rl.tasks import TASKS
from pex_lightning.datasets.dataset import Origin
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec


@dataclass(frozen=True)
class DataDescription:
    """The environment, the dataset and the reward transform that a policy was trained with.

    Attributes:
        env: The environment's identity, sizes and action bounds.
        dataset: The dataset's name.
        fingerprint: The dataset's fingerprint.
        reward: The transform applied to both offline and online rewards.
        origin: The kind of source of the dataset.
    """

    env: EnvSpec
    dataset: str
    fingerprint: str
    reward: RewardTransform
    origin: Origin = "file"

    def d4rl_score(self, env: EnvSpec | None = None) -> bool | None:
        """Whether a normalised score is a D4RL score: for its published data and environment.

        Args:
            env: The environment of the evaluation; by default that of the training.

        Returns:
            None if this is unknown: for files and arrays of the user, and for tasks whose file has
            no published checksum.
        """
        if self.origin in ("file", "arrays"):
            return None
        task, env = TASKS.get(self.dataset), env or self.env
        if self.origin != "d4rl" or task is None:
            return False
        if (env.id, dict(env.kwargs)) != (task.env, dict(task.env_kwargs)):
            return False
        return None if task.sha256 is None else True

    def to_dict(self) -> dict[str, Any]:
        """Convert to primitive types, so that loading a checkpoint executes no code."""
        return {
            "env": {
                "id": self.env.id,
                "kwargs": dict(self.env.kwargs),
                "obs_dim": self.env.obs_dim,
                "action_low": list(self.env.action_low),
                "action_high": list(self.env.action_high),
                "max_episode_steps": self.env.max_episode_steps,
                "obs_keys": list(self.env.obs_keys),
            },
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "origin": self.origin,
            "reward": self.reward.to_dict(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> DataDescription:
        """Convert back from `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or has the wrong type.
            UserError: The reward transform is malformed.
        """
        env = raw["env"]
        return cls(
            env=EnvSpec(
                id=str(env["id"]),
                kwargs=dict(env["kwargs"]),
                obs_dim=int(env["obs_dim"]),
                action_low=tuple(float(x) for x in env["action_low"]),
                action_high=tuple(float(x) for x in env["action_high"]),
                max_episode_steps=int(env["max_episode_steps"]),
                obs_keys=tuple(str(key) for key in env["obs_keys"]),
            ),
            dataset=str(raw["dataset"]),
            fingerprint=str(raw["fingerprint"]),
            reward=RewardTransform.from_dict(raw["reward"]),
            origin=_origin(raw.get("origin", "file")),
        )


def _origin(raw: object) -> Origin:
    for origin in get_args(Origin):
        if raw == origin:
            return origin  # type: ignore[no-any-return]
    raise ValueError(f"expected an origin of {get_args(Origin)}, found {raw!r}")
