"""Rewards and ends of recorded rows."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from pex_lightning.envs.antmaze import AntMazeEnv
from pex_lightning.envs.pointmaze import PointMazeEnv
from pex_lightning.recording.episode import Columns
from pex_lightning.recording.recipes import HalfCheetahRecipe, PointMazeRecipe, Recipe

_ANT_TARGET_OFFSET = 0.75


def add_labels(data: Columns, recipe: Recipe) -> dict[str, Any]:
    """Add `terminals` `[rows]`, and `rewards` `[rows]` where the recorder leaves them open.

    HalfCheetah never terminates. In a maze, row i has reward 1 and is terminal if row i + 1 lies
    within the radius of the evaluation goal and belongs to the same episode.

    Returns:
        What the labels depend on: of a maze, `target_goal` `[2]` and `goal_radius`, in metres.
    """
    if isinstance(recipe, HalfCheetahRecipe):
        data["terminals"] = np.zeros_like(data["timeouts"])
        return {}
    is_point = isinstance(recipe, PointMazeRecipe)
    env = PointMazeEnv(recipe.maze) if is_point else AntMazeEnv(recipe.maze)
    with contextlib.closing(env):
        centre = env.maze.to_xy(env.maze.goal_cell)
        target = centre if is_point else centre + _ANT_TARGET_OFFSET
        radius = env.goal_radius
    distance = np.linalg.norm(data["observations"][1:, :2] - target, axis=1)
    reached = np.append(distance <= radius, np.False_) & ~data["timeouts"]
    data["rewards"] = reached.astype(np.float32)
    data["terminals"] = reached
    return {"target_goal": target, "goal_radius": radius}
