"""Environments: ours, registered with gymnasium on import, and the door to everybody else's."""

import gymnasium

_TIME_LIMITS = {
    "AntMaze": {"UMaze": 700, "Medium": 1000, "Large": 1000},
    "PointMaze": {"UMaze": 150, "Medium": 300, "Large": 400},
}


def register_envs() -> None:
    """Register the `pex_lightning/` environments with gymnasium; a second call does nothing."""
    for family, limits in _TIME_LIMITS.items():
        for maze, steps in limits.items():
            env_id = f"pex_lightning/{family}-{maze}-v0"
            if env_id not in gymnasium.registry:
                gymnasium.register(
                    env_id,
                    entry_point=f"pex_lightning.envs.{family.lower()}:{family}Env",
                    max_episode_steps=steps,
                    kwargs={"maze": maze.lower()},
                )


register_envs()

from pex_lightning.envs.make import EnvSpec, env_spec, make_env  # noqa: E402

__all__ = ["EnvSpec", "env_spec", "make_env", "register_envs"]
