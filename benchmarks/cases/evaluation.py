"""Evaluation of PEX's composite policy with fresh networks in AntMaze."""

from __future__ import annotations

import contextlib

import numpy as np
from made_up import ENVIRONMENT
from torch import Tensor

from cases.ours_pex import fresh_pex
from cases.setting import Floats, Work
from pex_lightning.evaluation.rollouts import Evaluator

WARM_UP_ROUNDS = 20


class _WarmError(Exception):
    """Ends the warm-up of an evaluation, as a user's interrupt ends one."""


def as_fit_does(precision: str, episodes: int) -> Work:
    """Whole evaluations as ``fit`` does them."""
    assert precision == "float32"
    return _work(Evaluator(ENVIRONMENT, {}, episodes=episodes))


def one_by_one(precision: str, episodes: int) -> Work:
    """Whole evaluations in one environment of this process, an episode after another."""
    assert precision == "float32"
    return _work(Evaluator(ENVIRONMENT, {}, episodes=episodes, num_envs=1, num_workers=1))


def _work(evaluator: Evaluator) -> Work:
    """Evaluations in environments that run already."""
    policy = fresh_pex().acting_policy()
    rounds = 0

    def warming(observation: Tensor) -> Tensor:
        nonlocal rounds
        rounds += 1
        if rounds > WARM_UP_ROUNDS:
            raise _WarmError
        return policy.evaluation_action(observation)

    with contextlib.suppress(_WarmError):
        evaluator.run(warming)

    def step() -> None:
        evaluator.run(policy.evaluation_action)

    def nothing() -> Floats:
        return np.zeros(0, np.float32)

    return Work(step, nothing, units=evaluator.episodes, lead_in=False)
