"""The tasks of D4RL: files, matching environments, default settings and reference returns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pex_lightning.d4rl.checksums import PUBLISHED
from pex_lightning.d4rl.reference_scores import REFERENCES
from pex_lightning.errors import UserError
from pex_lightning.evaluation.scores import ScoreReference

if TYPE_CHECKING:
    from pex_lightning.datasets.rewards import RewardTransformName

D4RL_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
"""The address from which D4RL downloads its files."""


@dataclass(frozen=True)
class D4RLTask:
    """A task of D4RL (arXiv 2004.07219): a published dataset and an environment.

    Attributes:
        id: D4RL's name, version included, such as `antmaze-umaze-v2`.
        file: Path of the dataset below a mirror's address.
        env: Id of an available environment that matches the data; None if there is none.
        env_kwargs: Arguments of the environment.
        max_episode_steps: Time limit of an episode, in steps.
        reward_transform: Transform of offline and online rewards.
        reference: Returns with scores 0 and 100.
        episodes: Episodes per evaluation.
        expectile: Default of IQL's expectile.
        beta: Default of IQL's inverse temperature.
        inv_temperature: Default of PEX's inverse temperature.
        note: Why there is no environment, or how it differs from D4RL's.
        size: Size of the file in bytes; None if unknown.
        sha256: SHA-256 of the file; None if unknown.
    """

    id: str
    file: str
    env: str | None
    max_episode_steps: int
    reward_transform: RewardTransformName
    reference: ScoreReference
    episodes: int
    expectile: float
    beta: float
    inv_temperature: float
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    size: int | None = None
    sha256: str | None = None

    @property
    def url(self) -> str:
        """The address from which D4RL downloads the dataset."""
        return f"{D4RL_URL}/{self.file}"


@dataclass(frozen=True)
class _Family:
    """Settings that the tasks of one benchmark share; see `D4RLTask`."""

    reward_transform: RewardTransformName
    expectile: float
    beta: float
    inv_temperature: float
    episodes: int = 10

    def task(
        self, id: str, file: str, env: str | None, steps: int, reference: str, note: str = ""
    ) -> D4RLTask:
        size, sha256 = PUBLISHED.get(file, (None, None))
        return D4RLTask(
            id=id,
            file=file,
            env=env,
            max_episode_steps=steps,
            reference=REFERENCES[reference],
            note=note,
            size=size,
            sha256=sha256,
            **asdict(self),
        )


# Settings of IQL (arXiv 2110.06169) and PEX (arXiv 2302.00935); kitchen has those of Adroit. The
# papers do not cover maze2d: expectile and beta are CORL's for IQL, the same as for MuJoCo
# (https://github.com/tinkoff-ai/CORL, configs/offline/iql/maze2d).
_ANTMAZE = _Family("subtract_one", 0.9, 10.0, 10.0, episodes=100)
_MUJOCO = _Family("scale_by_return_range", 0.7, 3.0, 3.0)
_ADROIT = _Family("identity", 0.7, 0.5, 3.0)
_MAZE2D = _Family("identity", 0.7, 3.0, 3.0)
_KITCHEN = _Family("identity", 0.7, 0.5, 3.0)

_PEN_NOTE = (
    "pex_lightning/AdroitPen-v1 is gymnasium-robotics' AdroitHandPen-v1 except that dropping the "
    "pen ends the episode, as in D4RL: there it goes on, at a cost of 5 a step, and scores are not "
    "D4RL's."
)
_ADROIT_NOTE = (
    "pex_lightning/Adroit{Door,Hammer,Relocate}-v1 are gymnasium-robotics' AdroitHand*-v1 with "
    "D4RL's reward, which subtracts 0.1 times the distance between palm and object; "
    "gymnasium-robotics adds it from its version 1.2.1 on."
)
_MAZE2D_NOTE = (
    "D4RL labels a row of its maze2d files by that row's own observation (its script "
    "relabel_maze2d_rewards.py), while the environment, D4RL's as well as this one, rewards the "
    "observation after the step."
)
_KITCHEN_NOTE = (
    "No environment matches: gymnasium-robotics' FrankaKitchen-v1 fails on MuJoCo 4 (it runs on 3) "
    "and observes 59 numbers and goals where D4RL has 60. The file can be fetched and looked at; "
    "to train on it, register an environment of 60 observations and say --data.env MODULE:ID."
)


def _antmaze() -> Iterator[D4RLTask]:
    tasks = [
        ("umaze", "u-maze", "False", "False"),
        ("umaze-diverse", "u-maze", "True", "True"),
        ("medium-play", "big-maze", "True", "False"),
        ("medium-diverse", "big-maze", "True", "True"),
        ("large-play", "hardest-maze", "True", "False"),
        ("large-diverse", "hardest-maze", "True", "True"),
    ]
    mazes = {"umaze": ("UMaze", 700), "medium": ("Medium", 1000), "large": ("Large", 1000)}
    for name, map_name, many_starts, many_goals in tasks:
        maze, steps = mazes[name.partition("-")[0]]
        recorded = f"{map_name}_noisy_multistart_{many_starts}_multigoal_{many_goals}"
        yield _ANTMAZE.task(
            f"antmaze-{name}-v2",
            f"ant_maze_v2/Ant_maze_{recorded}_sparse_fixed.hdf5",
            f"pex_lightning/AntMaze-{maze}-v0",
            steps,
            "antmaze",
        )


def _mujoco() -> Iterator[D4RLTask]:
    envs = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4"}
    for body, env in envs.items():
        for data in ("random", "medium", "medium-replay", "medium-expert", "expert"):
            file = f"gym_mujoco_v2/{body}_{data.replace('-', '_')}-v2.hdf5"
            yield _MUJOCO.task(f"{body}-{data}-v2", file, env, 1000, body)


def _adroit() -> Iterator[D4RLTask]:
    for name, steps in {"pen": 100, "door": 200, "hammer": 200, "relocate": 200}.items():
        env = f"pex_lightning/Adroit{name.capitalize()}-v1"
        note = _PEN_NOTE if name == "pen" else _ADROIT_NOTE
        for data in ("human", "cloned", "expert"):
            id = f"{name}-{data}-v1"
            yield _ADROIT.task(id, f"hand_dapg_v1/{id}.hdf5", env, steps, name, note)


def _maze2d() -> Iterator[D4RLTask]:
    tasks = {
        "open": ("Open", "-v0", 150),
        "umaze": ("UMaze", "-v1", 300),
        "medium": ("Medium", "-v1", 600),
        "large": ("Large", "-v1", 800),
    }
    for dense in ("", "-dense"):
        for name, (maze, version, steps) in tasks.items():
            # The file name of the open maze has no version.
            end = f"{dense or '-sparse'}{version.replace('-v0', '')}"
            yield _MAZE2D.task(
                f"maze2d-{name}{dense}{version}",
                f"maze2d/maze2d-{name}{end}.hdf5",
                f"pex_lightning/Maze2D-{maze}{dense.title()}{version}",
                steps,
                f"maze2d-{name}{dense}",
                _MAZE2D_NOTE,
            )


def _kitchen() -> Iterator[D4RLTask]:
    files = {
        "complete": "mini_kitchen_microwave_kettle_light_slider-v0",
        "partial": "kitchen_microwave_kettle_light_slider-v0",
        "mixed": "kitchen_microwave_kettle_bottomburner_light-v0",
    }
    for name, file in files.items():
        path = f"kitchen/{file}.hdf5"
        yield _KITCHEN.task(f"kitchen-{name}-v0", path, None, 280, "kitchen", _KITCHEN_NOTE)


TASKS: Mapping[str, D4RLTask] = {
    task.id: task for family in (_antmaze, _mujoco, _adroit, _maze2d, _kitchen) for task in family()
}
"""Tasks by id, with names, files, time limits and references of the package d4rl 1.1.

The environments match the recorded data in model, observation, reward and termination:

* AntMaze and maze2d: rebuilt by this package on D4RL's model, see `pex_lightning.envs`.
* MuJoCo: the data come from gym's v2 environments. gymnasium's v4 have the same rewards,
  terminations, observations and models. HalfCheetah's model compiles to the same numbers; those of
  Hopper and Walker2d use other coordinates but move alike (within 1e-13 over 50 random steps, both
  compiled by MuJoCo 2.3.2). v5 differs: Hopper and Walker2d give no healthy reward in the step that
  ends an episode, and the friction of Walker2d's feet is 1.9 and 1.9, in v2 0.9 and 1.9.
* Adroit: gymnasium-robotics' models compile to the same numbers as D4RL's;
  `pex_lightning.envs.adroit` corrects rewards and terminations. Returns of a random policy in door,
  hammer and pen: -56.5, -274.9 and 66 +- 8 with these corrections, -56.5, -274.9 and 96 in D4RL
  (where they score 0), -45.9, -267.4 and -125 in gymnasium-robotics' own environments.
"""


def find_task(name: str, recipes: Collection[str] = ()) -> D4RLTask:
    """Find a task by its id.

    Args:
        name: The task's id.
        recipes: Names of datasets that can be recorded, as suggestions in the error message.

    Raises:
        UserError: There is no such task.
    """
    if name in TASKS:
        return TASKS[name]
    stem, version = _split_version(name)
    versions = [task for task in TASKS if _split_version(task)[0] == stem]
    if versions:
        found = f"of version {version[1:]}" if version else "without a version"
        hint = f"there is {', '.join(versions)}."
    else:
        found = "which is none of D4RL's tasks here"
        close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
        hint = f"the nearest are {', '.join(close)}." if close else "see pex-lightning data list."
    made = f" pex-lightning data make {stem} records similar data here." if stem in recipes else ""
    raise UserError(f"task: found {name!r}, {found}; {hint}{made}")


def _split_version(name: str) -> tuple[str, str]:
    """Split `hopper-medium-v2` into `hopper-medium` and `-v2`; a missing version is empty."""
    stem = re.sub(r"-v\d+$", "", name)
    return stem, name.removeprefix(stem)
