"""An environment that is made later, in this process or in another.

Worker processes import this module, so it must not import torch.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec as RegistryEntry

from pex_lightning.envs.make import make_env


@dataclass(frozen=True)
class EnvFactory:
    """Makes one environment, in this process or in another.

    Attributes:
        env_id: gymnasium id.
        env_kwargs: Arguments of the environment.
        entry: gymnasium's registration of the id, for a worker that did not import the module
            which registers it.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    entry: RegistryEntry | None

    @classmethod
    def of(cls, env_id: str, env_kwargs: Mapping[str, Any] | None) -> EnvFactory:
        """The factory for an id, with its registration if it has one by now."""
        return cls(env_id, dict(env_kwargs or {}), gymnasium.registry.get(env_id))

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """Make the environment."""
        if self.entry is not None:
            gymnasium.registry.setdefault(self.entry.id, self.entry)
        return make_env(self.env_id, self.env_kwargs)

    def can_be_sent(self) -> bool:
        """Whether another process can be given it; not so if its entry point is a lambda."""
        try:
            pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError):
            return False
        return True
