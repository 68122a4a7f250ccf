"""From an environment's id to an environment with flat float32 observations and bounded actions."""

import contextlib
import difflib
import importlib
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from pex_lightning import calls
from pex_lightning.envs.mujoco_library import mujoco
from pex_lightning.envs.standard import StandardEnv, standardise, time_limit
from pex_lightning.errors import UserError, shortened

_OURS = "pex_lightning/"
# What gymnasium and the constructors of environments raise for an id or arguments they refuse.
_REFUSALS = (
    gymnasium.error.Error,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class EnvSpec:
    """What networks, readers and checkpoints need to know about an environment.

    Attributes:
        id: Gymnasium id, version included, after `module:` if a module registers it.
        kwargs: Arguments it was made with; primitives, lists and dicts only.
        obs_dim: Length of the flat observation.
        action_low: Lower bound of every action component.
        action_high: Upper bound of every action component.
        max_episode_steps: Steps after which an episode is truncated.
        obs_keys: Keys of the underlying dict observation in the order in which they are
            concatenated; empty if the environment has no dict observation. A dataset of this
            environment is flattened the same way.
    """

    id: str
    kwargs: Mapping[str, Any]
    obs_dim: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_episode_steps: int
    obs_keys: tuple[str, ...] = field(default=())

    @property
    def action_dim(self) -> int:
        """Length of an action."""
        return len(self.action_low)


def make_env(
    env_id: str, env_kwargs: Mapping[str, Any] | None = None
) -> gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Make an environment with flat float32 observations and bounded float32 actions.

    gymnasium-robotics' environments are found without importing that package first. The
    observation is a `Box` of shape `[obs_dim]`. Dict observations are concatenated:

    * goal environments (`achieved_goal`, `observation`, `desired_goal`) in that order; the
      desired goal is left out if it belongs to a maze with a single goal cell, which is D4RL's
      convention for a task with one goal, and kept if the goal varies between episodes;
    * others in the sorted order of their keys.

    `info["success"]` is a bool on every step if the environment reports `success` or
    `is_success`, and absent otherwise.

    Args:
        env_id: A gymnasium id, such as `pex_lightning/AntMaze-UMaze-v0` or `HalfCheetah-v5`;
            `module:id` imports the module that registers the environment first.
        env_kwargs: Arguments of the environment's constructor, and `max_episode_steps` for
            another time limit; primitives, lists and dicts only.

    Raises:
        UserError: The id is unknown, the arguments are refused, or the environment cannot be
            used here: actions that are discrete or without finite bounds, observations that are
            not a Box (or a dict of Boxes), no time limit.
    """
    kwargs = _checked_kwargs(env_kwargs)
    with _quiet():
        calls.begin(calls.name_of(env_id), calls.MAKE)
        try:
            _find(env_id)
            _check_argument_names(env_id, kwargs)
            # The checker warns on every other step about matters that are checked here once.
            env = gymnasium.make(env_id, **{"disable_env_checker": True, **kwargs})
        except _REFUSALS as error:
            raise UserError(
                f"environment {env_id}: could not be made with env_kwargs "
                f"{shortened(str(kwargs))}: {shortened(str(error) or repr(error), 500)}"
            ) from error
        finally:
            calls.end()
    try:
        return standardise(env, env_id)
    except UserError:
        env.close()
        raise


def env_spec(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> EnvSpec:
    """Describe an environment, which is made and closed for that as by `make_env`."""
    with contextlib.closing(make_env(env_id, env_kwargs)) as env:
        actions, limit = env.action_space, time_limit(env)
        assert isinstance(actions, spaces.Box)
        assert env.observation_space.shape is not None
        return EnvSpec(
            id=env_id,
            kwargs=_checked_kwargs(env_kwargs),
            obs_dim=env.observation_space.shape[0],
            action_low=tuple(actions.low.tolist()),
            action_high=tuple(actions.high.tolist()),
            max_episode_steps=limit or 0,
            obs_keys=env.obs_keys if isinstance(env, StandardEnv) else (),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep notices of old versions, overridden ids and the like off the terminal."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)  # noqa: ARG005
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(handler)


def _checked_kwargs(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    if env_kwargs is None:
        return {}
    if not isinstance(env_kwargs, Mapping):
        raise UserError(
            f"env_kwargs: found {env_kwargs!r:.200}, expected a mapping of names to values"
        )
    for name, value in env_kwargs.items():
        if not isinstance(name, str) or not _is_primitive(value):
            raise UserError(
                f"env_kwargs: found {name!r:.80}: {value!r:.80} ({type(value).__name__}), expected "
                "numbers, strings, booleans, null, or lists and mappings of them, because "
                "checkpoints carry them"
            )
        if isinstance(value, str) and _is_pipe(value):
            raise UserError(
                f"env_kwargs: {name} is {value!r}, a pipe, a device or a socket, expected a file"
            )
    return dict(env_kwargs)


def _is_pipe(value: str) -> bool:
    """Whether text is the path of something that an environment could read from for ever."""
    try:
        path = Path(value)
        return path.exists() and not (path.is_file() or path.is_dir())
    except (OSError, ValueError):
        # Too long for a path, or with a zero byte.
        return False


def _is_primitive(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_primitive(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_primitive, value))
    return value is None or isinstance(value, bool | int | float | str)


def _find(env_id: str) -> None:
    """Register what is needed for `env_id`, or raise the `UserError` that names its neighbours."""
    module, colon, _ = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"environment {env_id}: found no module {module!r} to import, expected one that "
                f"registers the environment ({error})"
            ) from error
    if _known(env_id):
        return
    # Imported only now: it takes longer than everything else here together.
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("gymnasium_robotics")
    if _known(env_id):
        return
    ids = {key.rpartition("/")[2].lower(): key for key in gymnasium.registry}
    wanted = env_id.rpartition("/")[2].lower()
    close = [ids[match] for match in difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5)]
    ours = sorted(key for key in gymnasium.registry if key.startswith(_OURS))
    raise UserError(
        f"environment: found no environment {env_id!r:.200}; "
        + (f"closest ids: {', '.join(close)}; " if close else "")
        + f"ids of this package: {', '.join(ours)}"
    )


def _known(env_id: str) -> bool:
    return _name(env_id) in gymnasium.registry


def _name(env_id: str) -> str:
    return env_id.rpartition(":")[2]


def _check_argument_names(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Name the misspelt argument, which constructors that pass on `**kwargs` do not."""
    entry_point = gymnasium.registry[_name(env_id)].entry_point
    try:
        creator: Any = entry_point
        if isinstance(entry_point, str):
            creator = gymnasium.envs.registration.load_env_creator(entry_point)
        parameters = _parameters(creator)
    except _REFUSALS:
        return
    if parameters is None:
        return
    for name in kwargs:
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"env_kwargs of {env_id}: found {name!r:.80}, expected some of "
                f"{', '.join(sorted(parameters))}{hint}"
            )


def _parameters(creator: Any) -> set[str] | None:
    """Names that `creator` takes, following `**kwargs` up its bases; None if they are open."""
    names = {"max_episode_steps", "disable_env_checker"}
    is_class = inspect.isclass(creator)
    functions = [vars(base).get("__init__") for base in creator.__mro__] if is_class else [creator]
    for function in functions:
        if function is None or function is object.__init__:
            continue
        parameters = list(inspect.signature(function).parameters.values())[int(is_class) :]
        names.update(item.name for item in parameters if item.kind is not item.VAR_KEYWORD)
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return names
    return None
