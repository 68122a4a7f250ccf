"""The environment in which a Minari dataset was recorded, and warnings about Minari's data."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium

from pex_lightning.datasets.minari.store import (
    MinariMetadata,
    dataset_folder,
    ensure_minari,
    is_local,
    read_metadata,
)
from pex_lightning.envs.make import env_spec
from pex_lightning.errors import UserError, shortened

# Wrappers of gymnasium that do not change observations, actions and rewards.
_HARMLESS = frozenset(
    f"gymnasium.wrappers.{module}:{name}"
    for module, name in (
        ("common", "OrderEnforcing"),
        ("common", "PassiveEnvChecker"),
        ("common", "RecordEpisodeStatistics"),
        ("rendering", "HumanRendering"),
        ("rendering", "RecordVideo"),
        ("rendering", "RenderCollection"),
    )
)
# Arguments that only affect rendering.
_RENDERING = frozenset({"render_mode", "width", "height", "camera_id", "camera_name"})
_LONGEST_ID = 200
_NO_SCORES = (
    "Scores on Minari's data are not comparable with D4RL's: data and environment are others"
)


def minari_environment(dataset_id: str) -> tuple[str, dict[str, Any]]:
    """Find the environment in which a dataset was recorded.

    The dataset's evaluation environment is ignored: it may have another maze. The id is looked up
    among installed environments; code named by the dataset is never imported. Arguments equal to
    registered ones and rendering arguments are left out.

    Args:
        dataset_id: The dataset's id without `minari:`. A missing dataset is downloaded.

    Returns:
        (id, env_kwargs) for `make_env`; `env_kwargs` has `max_episode_steps` if the time limit
        differs from the registered one.

    Raises:
        UserError: The dataset cannot be fetched, or names no environment that can be made here
            without importing the dataset's code. `--data.env` overrides the environment.
    """
    ensure_minari(dataset_id)
    metadata = read_metadata(dataset_id)
    env_id, kwargs = _recorded(metadata)
    registered = _registered(env_id)
    if registered is None:
        raise UserError(
            f"{metadata.source} was recorded in {env_id}, which is not installed here."
            f"{_near(env_id)} {_way_out(env_id)}"
        )
    limit = (metadata.env_spec or {}).get("max_episode_steps")
    defaults = registered.kwargs
    kwargs = {k: v for k, v in kwargs.items() if k not in defaults or defaults[k] != v}
    if type(limit) is int and limit != registered.max_episode_steps:
        kwargs["max_episode_steps"] = limit
    try:
        env_spec(env_id, kwargs)
    except UserError as error:
        raise UserError(
            f"{metadata.source} was recorded in {env_id}, which cannot be made here ({error})."
            f"{_near(env_id)} {_way_out(env_id)}"
        ) from error
    return env_id, kwargs


def minari_notes(dataset_id: str) -> tuple[str, ...]:
    """List warnings about results on a dataset, one sentence each.

    Args:
        dataset_id: The dataset's id without `minari:`. A local dataset yields more warnings.

    Raises:
        UserError: The id is malformed, or the dataset's metadata are damaged.
    """
    dataset_folder(dataset_id)
    metadata = read_metadata(dataset_id) if is_local(dataset_id) else None
    notes = []
    if dataset_id.startswith("mujoco/"):
        notes.append(
            "Minari's mujoco/* are new data, recorded in environments of version 5: never compare "
            "scores on them with D4RL's."
        )
    else:
        notes.append(f"{_NO_SCORES}.")
    if dataset_id.startswith("D4RL/antmaze/"):
        notes.append(
            "About 3/4 of the steps of Minari's D4RL/antmaze/* stand at the goal, and IQL with "
            "D4RL's settings fails on them (Farama-Foundation/Minari, issue 296); the published "
            "data are had by D4RL's name, such as antmaze-umaze-v2."
        )
    if metadata is not None:
        notes += [*_evaluation_note(metadata), *_continuing_note(metadata)]
    elif dataset_id.startswith("D4RL/antmaze/"):
        notes.append(_other_maze("the environment that the data were recorded in"))
    return tuple(notes)


def _recorded(metadata: MinariMetadata) -> tuple[str, dict[str, Any]]:
    """Return id and arguments of the dataset's environment if they are free of code and paths."""
    raw, source = metadata.env_spec, metadata.source
    env_id = None if raw is None else raw.get("id")
    if raw is None or not isinstance(env_id, str) or len(env_id) > _LONGEST_ID:
        raise UserError(
            f"{source} does not say which environment it was recorded in. Name it with --data.env."
        )
    if ":" in env_id:
        raise UserError(
            f"{source} was recorded in {env_id}, whose module would be imported. If you trust it, "
            f"say so with --data.env {env_id}"
        )
    wrappers = [name for name in _wrappers(raw) if name not in _HARMLESS]
    if wrappers:
        raise UserError(
            f"{source} was recorded in {env_id} inside of the wrappers "
            f"{shortened(', '.join(wrappers))}, which are code that the dataset names and are not "
            "imported. If the data are what the "
            f"environment without them gives, say so with --data.env {env_id}; else register an "
            "environment that has them and name it with --data.env."
        )
    kwargs = raw.get("kwargs") or {}
    if not isinstance(kwargs, Mapping):
        raise UserError(
            f"{source}: found the arguments {kwargs!r:.200} of {env_id}, expected a mapping."
        )
    kept = {str(key): value for key, value in kwargs.items() if key not in _RENDERING}
    for key, value in kept.items():
        if _names_code_or_files(value):
            raise UserError(
                f"{source} was recorded in {env_id} with the argument {key:.80} = {value!r:.80}, "
                "which is not a plain value: it may name a file or code of another machine. "
                f"{_way_out(env_id)}"
            )
    return env_id, kept


def _wrappers(raw: Mapping[str, Any]) -> list[str]:
    wrappers = raw.get("additional_wrappers") or []
    if not isinstance(wrappers, list | tuple):
        return [repr(wrappers)]
    named = [item if isinstance(item, Mapping) else {"name": item} for item in wrappers]
    return [str(item.get("entry_point") or item.get("name")) for item in named]


def _names_code_or_files(value: object) -> bool:
    if isinstance(value, Mapping | list):
        items = value.values() if isinstance(value, Mapping) else value
        return any(map(_names_code_or_files, items))
    if isinstance(value, str):
        return any(mark in value for mark in ":/\\")
    return not (value is None or isinstance(value, bool | int | float))


def _registered(env_id: str) -> Any | None:
    if env_id not in gymnasium.registry:
        # A slow import, only done where it is needed.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("gymnasium_robotics")
    return gymnasium.registry.get(env_id)


def _near(env_id: str) -> str:
    """List installed versions of the same environment, for an error message."""
    name = env_id.rpartition("-v")[0]
    versions = [key for key in gymnasium.registry if key.rpartition("-v")[0] == name]
    others = sorted(key for key in versions if key != env_id)
    return f" Other versions here: {', '.join(others)}." if name and others else ""


def _way_out(env_id: str) -> str:
    return (
        f"Name an environment that matches the data with --data.env (and --data.env_kwargs): its "
        f"observations, actions and rewards must be those of {env_id}."
    )


def _evaluation_note(metadata: MinariMetadata) -> list[str]:
    recorded, other = metadata.env_spec, metadata.eval_env_spec
    if recorded is None or other is None or _identity(recorded) == _identity(other):
        return []
    here = f"the environment that the data were recorded in, {recorded.get('id')}"
    if _maze(recorded) != _maze(other):
        return [_other_maze(here)]
    return [
        f"The dataset names another environment for evaluation ({other.get('id')}, Minari's "
        f"eval_env=True); here it runs in {here}."
    ]


def _other_maze(here: str) -> str:
    return (
        "Minari's eval_env=True has another maze than the data (Farama-Foundation/Minari, issue "
        f"304); here evaluation runs in {here}."
    )


def _identity(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    return raw.get("id"), raw.get("kwargs"), raw.get("max_episode_steps")


def _maze(raw: Mapping[str, Any]) -> Any:
    kwargs = raw.get("kwargs")
    return kwargs.get("maze_map") if isinstance(kwargs, Mapping) else None


def _continuing_note(metadata: MinariMetadata) -> list[str]:
    raw = metadata.env_spec or {}
    env_id, kwargs = str(raw.get("id")), raw.get("kwargs")
    if not env_id.startswith(("AntMaze_", "PointMaze_")):
        return []
    # The constructors' default is True.
    if isinstance(kwargs, Mapping) and kwargs.get("continuing_task", True) is False:
        return []
    return [
        f"{env_id} goes on at the goal and pays for every step there (continuing_task=True), so "
        "that a return counts such steps instead of being 0 or 1."
    ]
