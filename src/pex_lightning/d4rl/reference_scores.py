"""D4RL's reference returns for normalised scores."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pex_lightning.evaluation.scores import ScoreReference

REFERENCES: Mapping[str, ScoreReference] = {
    "halfcheetah": ScoreReference(-280.178953, 12135.0),
    "hopper": ScoreReference(-20.272305, 3234.3),
    "walker2d": ScoreReference(1.629008, 4592.3),
    "pen": ScoreReference(96.262799, 3076.8331017826877),
    "hammer": ScoreReference(-274.856578, 12794.134825156867),
    "door": ScoreReference(-56.512833, 2880.5693087298737),
    "relocate": ScoreReference(-6.425911, 4233.877797728884),
    "antmaze": ScoreReference(0.0, 1.0),
    "kitchen": ScoreReference(0.0, 4.0),
    "maze2d-open": ScoreReference(0.01, 20.66),
    "maze2d-umaze": ScoreReference(23.85, 161.86),
    "maze2d-medium": ScoreReference(13.13, 277.39),
    "maze2d-large": ScoreReference(6.7, 273.99),
    "maze2d-open-dense": ScoreReference(11.17817, 27.166538620695782),
    "maze2d-umaze-dense": ScoreReference(68.537689, 193.66285642381482),
    "maze2d-medium-dense": ScoreReference(44.264742, 297.4552547777125),
    "maze2d-large-dense": ScoreReference(30.569041, 303.4857382709002),
}
"""Reference returns by the start of a task's name.

The values are those of `d4rl/infos.py` in the package d4rl 1.1, for the task versions of
`pex_lightning.d4rl.tasks`.
"""

_TASKS = {
    "HalfCheetah": "halfcheetah",
    "Hopper": "hopper",
    "Walker2d": "walker2d",
    "AdroitHandPen": "pen",
    "AdroitHandHammer": "hammer",
    "AdroitHandDoor": "door",
    "AdroitHandRelocate": "relocate",
    "pex_lightning/AdroitPen": "pen",
    "pex_lightning/AdroitHammer": "hammer",
    "pex_lightning/AdroitDoor": "door",
    "pex_lightning/AdroitRelocate": "relocate",
    "pex_lightning/AntMaze": "antmaze",
    "pex_lightning/PointMaze": "antmaze",  # not in D4RL; success has reward 1 as in AntMaze
    "pex_lightning/Maze2D-Open": "maze2d-open",
    "pex_lightning/Maze2D-UMaze": "maze2d-umaze",
    "pex_lightning/Maze2D-Medium": "maze2d-medium",
    "pex_lightning/Maze2D-Large": "maze2d-large",
    "pex_lightning/Maze2D-Open-Dense": "maze2d-open-dense",
    "pex_lightning/Maze2D-UMaze-Dense": "maze2d-umaze-dense",
    "pex_lightning/Maze2D-Medium-Dense": "maze2d-medium-dense",
    "pex_lightning/Maze2D-Large-Dense": "maze2d-large-dense",
}
"""Key of `REFERENCES` by environment id without module, version and, where one reference serves all
mazes, the maze."""

_ONE_FOR_ALL_MAZES = re.compile(r"(pex_lightning/(?:AntMaze|PointMaze))-")


def score_reference(env_id: str) -> ScoreReference | None:
    """Look up D4RL's reference returns for an environment.

    They hold for default rewards: arguments that change rewards, such as `reward_type`, make
    scores meaningless.

    Args:
        env_id: gymnasium id, such as `Hopper-v4` or `pex_lightning/AntMaze-UMaze-v0`. All versions
            of an environment share one reference.

    Returns:
        The reference, or None if D4RL has none (scores are then not reported).
    """
    family = re.sub(r"-v\d+$", "", env_id.rpartition(":")[2])
    shared = _ONE_FOR_ALL_MAZES.match(family)
    name = _TASKS.get(shared[1] if shared else family)
    return None if name is None else REFERENCES[name]
