"""Evaluation of PEX's composite policy with fresh networks in AntMaze."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from torch import Tensor

from benchmarks.cases.shared.builders import (
    Act,
    acting,
    evaluation_as_in_fit,
    evaluation_one_by_one,
    new_pex,
)
from benchmarks.cases.shared.setting import Floats, Work

WARM_UP_ROUNDS = 20


class _WarmError(Exception):
    """Ends the warm-up of an evaluation, as a user's interrupt ends one."""


def as_fit_does(precision: str, episodes: int) -> Work:
    """Whole evaluations as `fit` does them."""
    assert precision == "float32"
    return _work(evaluation_as_in_fit(episodes), episodes)


def one_by_one(precision: str, episodes: int) -> Work:
    """Whole evaluations in one environment of this process, an episode after another."""
    assert precision == "float32"
    return _work(evaluation_one_by_one(episodes), episodes)


def _work(evaluate: Callable[[Act], object], episodes: int) -> Work:
    """Evaluations in environments that run already."""
    act = acting(new_pex())
    rounds = 0

    def warming(observation: Tensor) -> Tensor:
        nonlocal rounds
        rounds += 1
        if rounds > WARM_UP_ROUNDS:
            raise _WarmError
        return act(observation)

    with contextlib.suppress(_WarmError):
        evaluate(warming)

    def step() -> None:
        evaluate(act)

    def nothing() -> Floats:
        return np.zeros(0, np.float32)

    return Work(step, nothing, units=episodes, lead_in=False)
