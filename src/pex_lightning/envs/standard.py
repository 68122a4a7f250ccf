"""The one shape of environment that the rest of the package sees, and which ones can take it."""

import logging
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from pex_lightning import calls
from pex_lightning.envs.maze_env import MazeEnv
from pex_lightning.errors import UserError

_log = logging.getLogger(__name__)

_UNBOUNDED = 1e30
_LARGEST = float(np.finfo(np.float32).max)

GOAL_KEYS = ("achieved_goal", "observation", "desired_goal")
"""Keys of a goal environment's dict observation, in the order in which they are concatenated."""


class StandardEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Flat float32 observations, float32 actions, and `info["success"]` as a bool.

    What the environment gives is compared with what it promised before anything is made of it.

    Args:
        env: An environment whose spaces `make_env` has checked.
        obs_keys: Keys of a dict observation in the order of concatenation; empty for a Box.
        name: What errors call it.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], obs_keys: tuple[str, ...], name: str = "of yours"
    ) -> None:
        super().__init__(env)
        self.obs_keys = obs_keys
        space, actions = env.observation_space, env.action_space
        assert isinstance(actions, spaces.Box)
        parts = [space[key] for key in obs_keys] if isinstance(space, spaces.Dict) else [space]
        self.observation_space = _flat_box(parts)
        self.action_space = spaces.Box(
            actions.low.astype(np.float32), actions.high.astype(np.float32), dtype=np.float32
        )
        self._action_dtype = actions.dtype
        self._shapes = [part.shape for part in parts]
        self._name, self._step = name, 0
        self._call_name = calls.name_of(name)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode; returns the observation `[obs_dim]` and info.

        Raises:
            UserError: The observation is not what the environment promised, or is not finite.
        """
        self._step = 0
        calls.begin(self._call_name, calls.RESET)
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        finally:
            calls.end()
        return self._flat(observation), info

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply an action `[action_dim]`; returns observation `[obs_dim]`, reward, ends, info.

        Raises:
            UserError: One of them is not what the environment promised, or is not finite.
        """
        self._step += 1
        given = np.asarray(action, dtype=self._action_dtype)
        reward: Any
        calls.begin(self._call_name, calls.STEP, self._step)
        try:
            observation, reward, terminated, truncated, info = self.env.step(given)
        finally:
            calls.end()
        for key in ("success", "is_success"):
            if key in info:
                info["success"] = bool(info[key])
                break
        # NaN is not below anything either.
        if np.size(reward) != 1 or not abs(float(reward)) <= _LARGEST:
            raise self._broken(f"the reward {reward!r}", "a number that float32 can hold")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if np.size(flag) != 1 or flag not in (False, True):
                raise self._broken(f"{name} {flag!r}", "true or false")
        return self._flat(observation), float(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Close the environment; one that hangs is given up, which is no error."""
        calls.begin(self._call_name, calls.CLOSE)
        try:
            super().close()
        except calls.CallHangsError:
            _log.warning("environment %s is left open until this process ends", self._name)
        finally:
            calls.end()

    def _flat(self, observation: Any) -> npt.NDArray[np.float32]:
        if self.obs_keys:
            missing = [key for key in self.obs_keys if key not in observation]
            if missing:
                raise self._broken(f"an observation without {missing}", str(self.obs_keys))
        parts = [observation[key] for key in self.obs_keys] if self.obs_keys else [observation]
        for i, (part, shape) in enumerate(zip(parts, self._shapes, strict=True)):
            if np.shape(part) != shape:
                where = f" of {self.obs_keys[i]!r}" if self.obs_keys else ""
                raise self._broken(
                    f"an observation{where} of shape {np.shape(part)}", f"{shape} as it promised"
                )
        with np.errstate(over="ignore"):
            flat = np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
        if not np.isfinite(flat).all():
            first = int(np.flatnonzero(~np.isfinite(flat))[0])
            raise self._broken(
                f"{flat[first]} as number {first} of the observation", "numbers that are finite"
            )
        return flat

    def _broken(self, found: str, expected: str) -> UserError:
        when = f"step {self._step} of an episode" if self._step else "a reset"
        return UserError(
            f"environment {self._name}: found {found} at {when}, expected {expected}. Nothing of "
            "it is learnt from; repair the environment."
        )


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which `env` truncates an episode; None if it never does."""
    return env.spec.max_episode_steps if env.spec else None


def standardise(
    env: gymnasium.Env[Any, Any], env_id: str
) -> gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Check an environment's spaces and wrap it where they need it.

    Args:
        env: The environment, closed by nobody here.
        env_id: Its name for messages.

    Raises:
        UserError: The environment cannot be used, see `make_env`.
    """
    actions = env.action_space
    if not isinstance(actions, spaces.Box) or not np.issubdtype(actions.dtype, np.floating):
        raise UserError(
            f"environment {env_id}: found the action space {actions}, expected continuous actions "
            "(a Box of floats); discrete actions are not supported"
        )
    if len(actions.shape) != 1:
        raise UserError(
            f"environment {env_id}: found actions of shape {actions.shape}, expected one dimension"
        )
    # A bound near the largest float is meant as none, and has no finite range.
    if not (np.abs([actions.low, actions.high]) < _UNBOUNDED).all():
        raise UserError(
            f"environment {env_id}: found the action space {actions}, expected finite bounds; wrap "
            "the environment so that its actions are bounded"
        )
    fixed = np.flatnonzero(actions.low >= actions.high)
    if len(fixed):
        raise UserError(
            f"environment {env_id}: number {fixed[0]} of its actions has the lower bound "
            f"{actions.low[fixed[0]]:g} and the upper bound {actions.high[fixed[0]]:g}, expected a "
            "range; wrap the environment so that its actions leave fixed numbers out"
        )
    if time_limit(env) is None:
        raise UserError(
            f"environment {env_id}: found no time limit, expected one; set max_episode_steps in "
            "env_kwargs"
        )
    modes = env.unwrapped.metadata.get("render_modes") or []
    if env.render_mode is not None and env.render_mode.removesuffix("_list") not in modes:
        raise UserError(
            f"env_kwargs of {env_id}: found the render_mode {env.render_mode!r}, expected one of "
            f"{', '.join(modes)}"
        )
    obs_keys = _obs_keys(env, env_id)
    if isinstance(env.unwrapped, MazeEnv):
        return env
    return StandardEnv(env, obs_keys, env_id)


def _obs_keys(env: gymnasium.Env[Any, Any], env_id: str) -> tuple[str, ...]:
    space = env.observation_space
    items = space.spaces.items() if isinstance(space, spaces.Dict) else [("observation", space)]
    for key, item in items:
        if not isinstance(item, spaces.Box):
            raise UserError(
                f"environment {env_id}: found {key} in the space {item}, expected a Box or a flat "
                "dict of Boxes"
            )
    if not isinstance(space, spaces.Dict):
        return ()
    if set(space.spaces) == set(GOAL_KEYS):
        return GOAL_KEYS[:2] if _has_one_goal(env) else GOAL_KEYS
    return tuple(sorted(space.spaces))


def _has_one_goal(env: gymnasium.Env[Any, Any]) -> bool:
    maze = getattr(env.unwrapped, "maze", None)
    return len(getattr(maze, "unique_goal_locations", ())) == 1


def _flat_box(parts: list[Any]) -> spaces.Box:
    low = np.concatenate([np.ravel(part.low) for part in parts]).astype(np.float32)
    high = np.concatenate([np.ravel(part.high) for part in parts]).astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)
