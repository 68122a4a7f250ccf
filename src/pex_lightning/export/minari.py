"""Export of an online run's experience as a Minari dataset."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from pex_lightning.datasets.minari.store import PIP, dataset_folder, datasets_root
from pex_lightning.envs.make import make_env
from pex_lightning.envs.standard import StandardEnv
from pex_lightning.errors import UserError
from pex_lightning.export.experience import Experience

_ROOT = "MINARI_DATASETS_PATH"
# Slice in a flat observation, and shape, of each named part; empty for flat observations.
_Parts = Mapping[str, tuple[slice, tuple[int, ...]]]


@dataclass(frozen=True)
class Author:
    """Author of a dataset, stored in Minari's metadata.

    Attributes:
        name: The author's name.
        email: The author's email address.
    """

    name: str | None = None
    email: str | None = None


def export_minari(
    experience: Experience,
    dataset_id: str,
    *,
    author: Author | None = None,
    trust_env: bool = False,
    overwrite: bool,
) -> Path:
    """Write experience as a Minari dataset, for `read_minari` and `minari.load_dataset`.

    Flattened observations of dict environments are split into their named parts again, as float32.
    The infos `policy_index` and `choice_probs` of step t are in row t + 1, as usual in Minari; row
    0, the reset, has −1 and zeros. The last step of a cut episode (see `read_experience`) is
    truncated. The dataset only appears once it is complete.

    Args:
        experience: The experience to write.
        dataset_id: Id of the new dataset, such as `my/pointmaze/pex-v0`.
        author: Author of the dataset.
        trust_env: Whether the module named by the environment's id may be imported.
        overwrite: Whether to replace a dataset of the same id.

    Returns:
        The dataset's folder.

    Raises:
        UserError: Minari is not installed, the id is malformed or in use, the environment cannot be
            made or differs from the run's, or the dataset cannot be written.
    """
    folder = dataset_folder(dataset_id)
    _check_new(dataset_id, folder, overwrite=overwrite)
    with _environment(experience, trust_env=trust_env) as env:
        space, parts = _observation_space(env, experience)
        try:
            with _written_aside(folder, dataset_id):
                _create(dataset_id, experience, env, space, parts, author or Author())
        except OSError as error:
            raise UserError(f"--minari {dataset_id}: could not be written ({error}).") from error
    return folder


def _check_new(dataset_id: str, folder: Path, *, overwrite: bool) -> None:
    try:
        from minari.dataset.minari_dataset import parse_dataset_id  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(
            f"--minari needs the package minari; run: {PIP}. Or write a file with --out."
        ) from error
    try:
        parse_dataset_id(dataset_id)
    except ValueError as error:
        raise UserError(f"--minari {dataset_id}: Minari refuses this id ({error}).") from error
    if folder.exists() and not overwrite:
        raise UserError(
            f"--minari {dataset_id}: there is such a dataset in {folder}. Give another id, or "
            "--overwrite to replace it."
        )
    if folder.exists() and not (folder / "data" / "metadata.json").is_file():
        raise UserError(
            f"--minari {dataset_id}: {folder} is not a dataset, so it is not overwritten. Give "
            "another id."
        )


@contextlib.contextmanager
def _environment(experience: Experience, *, trust_env: bool) -> Iterator[gymnasium.Env[Any, Any]]:
    spec = experience.header.data.env
    if ":" in spec.id and not trust_env:
        raise UserError(
            f"{experience.checkpoint} names the environment {spec.id!r}, whose module would be "
            f"imported. If you trust it, say so with --data.env {spec.id}; --out needs no "
            "environment."
        )
    env = make_env(spec.id, spec.kwargs)
    try:
        yield env
    finally:
        env.close()


def _observation_space(
    env: gymnasium.Env[Any, Any], experience: Experience
) -> tuple[spaces.Space[Any], _Parts]:
    """Return the observation space and its named parts."""
    obs_dim, keys = experience.header.data.env.obs_dim, experience.header.data.env.obs_keys
    inner = env.env.observation_space if isinstance(env, StandardEnv) else None
    boxes: dict[str, spaces.Space[Any]] = {}
    parts, at = {}, 0
    for key in keys:
        box = inner[key] if isinstance(inner, spaces.Dict) and key in inner.spaces else None
        if not isinstance(box, spaces.Box):
            break
        width = int(np.prod(box.shape))
        parts[key] = (slice(at, at + width), box.shape)
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
        boxes[key] = spaces.Box(low, high, dtype=np.float32)
        at += width
    flat = env.observation_space
    if (at if keys else obs_dim) != obs_dim or flat.shape != (obs_dim,):
        spec = experience.header.data.env
        raise UserError(
            f"{experience.checkpoint} was trained in {spec.id} with {obs_dim} observed numbers, "
            f"which is not what it has here ({flat.shape}). Install the version that the run had, "
            "or write a file with --out."
        )
    return (spaces.Dict(boxes), parts) if keys else (flat, {})


def _create(
    dataset_id: str,
    experience: Experience,
    env: gymnasium.Env[Any, Any],
    space: spaces.Space[Any],
    parts: _Parts,
    author: Author,
) -> None:
    import minari  # noqa: PLC0415

    header = experience.header
    with warnings.catch_warnings():
        # Minari warns of every missing field.
        warnings.simplefilter("ignore")
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            list(_episodes(experience, parts)),
            env=_describable(env),
            observation_space=space,
            action_space=env.action_space,
            algorithm_name=f"{header.algorithm} (pex-lightning)",
            author=author.name,
            author_email=author.email,
            description=(
                f"What {header.algorithm} of pex-lightning experienced in {header.data.env.id} "
                f"during {header.env_steps} environment steps and {header.gradient_steps} gradient "
                f"steps, after learning from {header.data.dataset}. policy_index counts "
                f"{', '.join(header.members)}."
            ),
        )
        dataset.storage.update_metadata({"pex_lightning": experience.provenance()})


def _describable(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any] | None:
    """Return the environment without our wrapper; None if gymnasium cannot serialise its spec.

    The latter happens for environments registered by a class instead of a name.
    """
    inner = env.env if isinstance(env, StandardEnv) else env
    try:
        if inner.spec is None:
            return None
        inner.spec.to_json()
    except (TypeError, ValueError):
        return None
    return inner


def _episodes(experience: Experience, parts: _Parts) -> Iterator[Any]:
    from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: PLC0415

    stops = np.flatnonzero(experience.ends) + 1
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        rows = slice(start, stop)
        last = experience.next_observations[stop - 1 : stop]
        flat = np.concatenate([experience.observations[rows], last])
        named = {key: flat[:, at].reshape(len(flat), *shape) for key, (at, shape) in parts.items()}
        yield EpisodeBuffer(
            observations=named or flat,
            actions=experience.actions[rows],
            rewards=experience.rewards[rows],
            terminations=experience.terminals[rows],
            truncations=experience.timeouts[rows],
            infos={
                "policy_index": _after_reset(experience.policy_index[rows], -1),
                "choice_probs": _after_reset(experience.choice_probs[rows], 0),
            },
        )


def _after_reset(values: np.ndarray, reset: float) -> np.ndarray:
    return np.concatenate([np.full_like(values[:1], reset), values])


@contextlib.contextmanager
def _written_aside(folder: Path, dataset_id: str) -> Iterator[None]:
    """Let Minari write to a temporary folder, and move the dataset to its place on success."""
    from minari.namespace import create_namespace, list_local_namespaces  # noqa: PLC0415

    root = datasets_root()
    root.mkdir(parents=True, exist_ok=True)
    # Minari's ids have no dots, so Minari ignores this folder.
    with tempfile.TemporaryDirectory(dir=root, prefix=".export-") as aside:
        before = os.environ.get(_ROOT)
        os.environ[_ROOT] = aside
        try:
            yield
        finally:
            if before is None:
                del os.environ[_ROOT]
            else:
                os.environ[_ROOT] = before
        namespace = dataset_id.rpartition("/")[0]
        if namespace and namespace not in list_local_namespaces():
            create_namespace(namespace)
        if folder.exists():
            folder.rename(Path(aside) / ".replaced")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(aside) / dataset_id, folder)
