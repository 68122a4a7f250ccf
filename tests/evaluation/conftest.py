"""Registers the toy environment for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

ENTRIES = {"PexToy-v0": "toy_env:ToyEnv", "PexTorchWatcher-v0": "toy_env:TorchWatchingEnv"}


@pytest.fixture(autouse=True)
def toy_envs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Worker processes are given sys.path, so that they find the toy's module.
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for env_id, entry in ENTRIES.items():
        gymnasium.register(env_id, entry_point=entry, max_episode_steps=1000)
    yield
    for env_id in ENTRIES:
        gymnasium.registry.pop(env_id)
