"""Collection with PEX's composite policy with fresh networks in AntMaze, in this process."""

from __future__ import annotations

from benchmarks.cases.shared.builders import collector, critic_parameters, new_pex
from benchmarks.cases.shared.setting import Work

FRAMES = 5
"""As many as `fit` collects for a chunk of updates."""


def build(precision: str) -> Work:
    """Environment steps as the online stage takes them."""
    assert precision == "float32"
    pex = new_pex()
    collect = collector(pex)

    def step() -> None:
        collect(FRAMES)

    return Work(step, lambda: critic_parameters(pex), units=FRAMES)
