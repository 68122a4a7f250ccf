"""Registers the toy environment for the tests of this folder."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest


@pytest.fixture(scope="session")
def collecting() -> Iterator[Any]:
    """The module `collecting_toy`, its environment registered."""
    with pytest.MonkeyPatch.context() as patch:
        # Processes are given sys.path, so that they find the toy's module.
        patch.syspath_prepend(str(Path(__file__).parent))
        toy = importlib.import_module("collecting_toy")
        entry = "collecting_toy:CollectingEnv"
        gymnasium.register(toy.ENV_ID, entry_point=entry, max_episode_steps=toy.TIME_LIMIT)
        yield toy
        gymnasium.registry.pop(toy.ENV_ID)
