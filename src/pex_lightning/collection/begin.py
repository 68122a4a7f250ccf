"""Begins to collect, in this process or in others."""

from __future__ import annotations

from typing import Any

from pex_lightning.collection.local import Collection, LocalCollection
from pex_lightning.collection.pool import CollectorPool
from pex_lightning.envs.factory import EnvFactory


def begin_collection(
    module: Any, factory: EnvFactory, *, num_collectors: int, seed: int, collected: int
) -> Collection:
    """Start to step environments with a method's acting policy.

    Args:
        module: The method that learns.
        factory: Makes an environment.
        num_collectors: Number of processes; 0 is this process.
        seed: Random seed of the environments.
        collected: Steps that this process's collection has taken before.
    """
    if num_collectors == 0:
        policy = module.collecting_policy()
        return LocalCollection(policy, factory, seed=seed, device=module.device)
    policy = module.acting_policy()
    return CollectorPool(policy, factory, size=num_collectors, seed=seed, collected=collected)
