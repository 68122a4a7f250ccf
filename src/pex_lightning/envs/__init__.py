"""Environments: ours, registered with gymnasium on import, and the door to everybody else's."""

import gymnasium
from gymnasium.envs.registration import WrapperSpec

_TIME_LIMITS = {
    "AntMaze": {"UMaze": 700, "Medium": 1000, "Large": 1000},
    "PointMaze": {"UMaze": 150, "Medium": 300, "Large": 400},
}
# The versions are those of D4RL's tasks: its maze2d tasks changed their limits from v0 to v1.
_MAZE2D = {"Open-v0": 150, "UMaze-v1": 300, "Medium-v1": 600, "Large-v1": 800}
_ADROIT = {"Pen": 100, "Door": 200, "Hammer": 200, "Relocate": 200}


def register_envs() -> None:
    """Register the `pex_lightning/` environments with gymnasium; a second call does nothing."""
    for family, limits in _TIME_LIMITS.items():
        for maze, steps in limits.items():
            _register(f"{family}-{maze}-v0", f"{family.lower()}:{family}Env", steps, maze=maze)
    for name, steps in _MAZE2D.items():
        maze, version = name.split("-")
        _register(f"Maze2D-{name}", "maze2d:Maze2DEnv", steps, maze=maze)
        dense = f"Maze2D-{maze}-Dense-{version}"
        _register(dense, "maze2d:Maze2DEnv", steps, maze=maze, reward_type="dense")
    for task, steps in _ADROIT.items():
        _register_adroit(task, steps)


def _register(name: str, entry_point: str, steps: int, *, maze: str, **kwargs: str) -> None:
    env_id = f"pex_lightning/{name}"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point=f"pex_lightning.envs.{entry_point}",
            max_episode_steps=steps,
            kwargs={"maze": maze.lower(), **kwargs},
        )


def _register_adroit(task: str, steps: int) -> None:
    env_id = f"pex_lightning/Adroit{task}-v1"
    if env_id not in gymnasium.registry:
        module = f"gymnasium_robotics.envs.adroit_hand.adroit_{task.lower()}"
        rewards = f"{task}Rewards"
        gymnasium.register(
            env_id,
            entry_point=f"{module}:AdroitHand{task}Env",
            max_episode_steps=steps,
            additional_wrappers=(WrapperSpec(rewards, f"pex_lightning.envs.adroit:{rewards}", {}),),
        )


register_envs()

from pex_lightning.envs.make import EnvSpec, env_spec, make_env  # noqa: E402

__all__ = ["EnvSpec", "env_spec", "make_env", "register_envs"]
