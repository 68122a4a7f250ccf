"""Episodes of a local Minari dataset, read one at a time as numeric columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pex_lightning.datasets.columns import Column
from pex_lightning.datasets.hdf5 import Hdf5Array, Hdf5File, open_hdf5
from pex_lightning.datasets.minari.store import PIP, REPAIR, MinariMetadata
from pex_lightning.envs.standard import GOAL_KEYS
from pex_lightning.errors import UserError, in_one_line, shortened

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

# gymnasium's and Minari's names of types; numpy takes structures and expressions too.
_TYPES = re.compile(r"(float|u?int)(8|16|32|64)|bool", re.ASCII)
_MOST_DIMENSIONS = 8
_MOST_NUMBERS = 10**8


@dataclass(frozen=True)
class Part:
    """One Box of a space: its key (empty if the space is not a dict) and the shape of a row."""

    key: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers per row."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Episode:
    """An episode of T steps.

    Attributes:
        source: The dataset and the episode, for error messages.
        observations: One column [T + 1, ...] for each part of an observation.
        actions: [T, act_dim].
        rewards: [T] raw rewards.
        terminations: [T] flags.
        truncations: [T] flags.
    """

    source: str
    observations: tuple[Column, ...]
    actions: Column
    rewards: Column
    terminations: Column
    truncations: Column

    def check(self, observations: Sequence[Part], actions: Part) -> None:
        """Check lengths and shapes of the columns.

        Args:
            observations: The parts of an observation, from the dataset's metadata.
            actions: The action part, from the dataset's metadata.

        Raises:
            UserError: A length or a shape is wrong.
        """
        for column in (self.rewards, self.terminations, self.truncations):
            column.check_shape(matrix=False)
        columns = zip((*self.observations, self.actions), (*observations, actions), strict=True)
        for column, part in columns:
            shape: tuple[int, ...] | None = column.values.shape
            if not shape or shape[1:] != part.shape:
                found = "no rows" if not shape else f"rows of shape {list(shape[1:])}"
                raise UserError(
                    f"{self.source}: '{column.key}' has {found}, expected {list(part.shape)} as "
                    f"the dataset says. It is damaged. {REPAIR}"
                )
        steps = len(self.rewards)
        lengths = [(self.actions, steps), (self.terminations, steps), (self.truncations, steps)]
        for column, expected in [*lengths, *((column, steps + 1) for column in self.observations)]:
            if len(column) != expected:
                raise UserError(
                    f"{self.source}: it has {steps} rewards and {len(column)} rows of "
                    f"'{column.key}', expected {expected}. It is damaged. {REPAIR}"
                )


def observation_parts(metadata: MinariMetadata, spec: EnvSpec | None) -> tuple[Part, ...]:
    """List the Boxes of an observation in the order in which they are concatenated.

    Args:
        metadata: The dataset's metadata.
        spec: The environment; its `obs_keys`, if any, determine the parts and their order. If the
            dataset does not say its space, its arrays have to be flat observations of this
            environment.

    Raises:
        UserError: A part is not a Box of numbers, or the dataset lacks it.
    """
    space, wanted = metadata.observation_space, () if spec is None else spec.obs_keys
    if space is None:
        if spec is None or wanted or metadata.data_format != "hdf5":
            raise _no_space(metadata, "observation_space")
        return (Part("", (spec.obs_dim,)),)
    env = "" if spec is None else spec.id
    if space.get("type") != "Dict":
        if wanted:
            raise UserError(
                f"{metadata.source}: its observations are flat, those of environment {env} consist "
                f"of {', '.join(wanted)}, and in which order they were joined is not known. Name "
                "the environment that the data were recorded in with --data.env."
            )
        return (_box(space, "observations", metadata),)
    spaces = space.get("subspaces")
    if not isinstance(spaces, Mapping) or not spaces:
        raise UserError(f"{metadata.source}: its observations are a dict without entries.")
    keys = wanted
    if not keys:
        goal = set(spaces) <= set(GOAL_KEYS)
        keys = tuple(key for key in GOAL_KEYS if key in spaces) if goal else tuple(sorted(spaces))
    missing = [key for key in keys if key not in spaces]
    if missing:
        raise UserError(
            f"{metadata.source}: its observations have {', '.join(sorted(spaces))}, but not "
            f"{', '.join(missing)}, which those of environment {env} have. Name the environment "
            "that the data were recorded in with --data.env."
        )
    return tuple(_box(spaces[key], f"observations ({key})", metadata, key) for key in keys)


def action_part(metadata: MinariMetadata, spec: EnvSpec | None) -> Part:
    """Return the Box of the actions; that of the environment if the dataset does not say it.

    Raises:
        UserError: The actions are not continuous, or not one-dimensional.
    """
    space = metadata.action_space
    if space is None:
        if spec is None or metadata.data_format != "hdf5":
            raise _no_space(metadata, "action_space")
        return Part("", (spec.action_dim,))
    part = _box(space, "actions", metadata)
    if np.dtype(str(space.get("dtype"))).kind != "f" or len(part.shape) != 1:
        raise UserError(
            f"{metadata.source}: its actions are a Box of {space.get('dtype')} and shape "
            f"{list(part.shape)}, expected continuous actions, one row of floats each."
        )
    return part


def _box(space: Any, what: str, metadata: MinariMetadata, key: str = "") -> Part:
    """Check that a space is a Box that can be flattened, and return it."""
    kind = space.get("type") if isinstance(space, Mapping) else None
    expected = "expected numbers: a Box, or a dict of Boxes for observations"
    if kind != "Box":
        kind = shortened(str(kind), 40)
        raise UserError(f"{metadata.source}: its {what} are of the kind {kind}; {expected}.")
    if "/" in key or key in (".", ".."):
        raise UserError(f"{metadata.source}: its {what} have a name that is a path; {expected}.")
    try:
        shape = _shape(space["shape"])
        dtype = _dtype(space["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{metadata.source}: the space of its {what} is damaged ({in_one_line(error)}). "
            f"{REPAIR}"
        ) from error
    image = dtype == np.uint8 and len(shape) >= 2
    if image:
        raise UserError(
            f"{metadata.source}: its {what} are images of shape {list(shape)}; {expected}."
        )
    return Part(key, shape)


def _shape(found: Any) -> tuple[int, ...]:
    fits = isinstance(found, list) and len(found) <= _MOST_DIMENSIONS
    if not fits or not all(type(size) is int and size >= 1 for size in found):
        raise ValueError(f"shape is {found!r:.40}")
    if math.prod(found) > _MOST_NUMBERS:
        raise ValueError(f"shape {found!r:.40} has more than {_MOST_NUMBERS} numbers")
    return tuple(found)


def _dtype(found: Any) -> np.dtype[Any]:
    if not isinstance(found, str) or _TYPES.fullmatch(found) is None:
        raise ValueError(f"dtype is {found!r:.40}")
    return np.dtype(found)


def _no_space(metadata: MinariMetadata, key: str) -> UserError:
    return UserError(
        f"{metadata.source}: {metadata.folder}/metadata.json has no {key}. Write the dataset again "
        "with create_dataset_from_buffers(..., observation_space=..., action_space=...); if it is "
        "kept as hdf5 and its observations are plain arrays, it is enough to name its environment "
        "with --data.env (`data info`: --env)."
    )


@contextmanager
def open_episodes(metadata: MinariMetadata, parts: Sequence[Part]) -> Iterator[Iterator[Episode]]:
    """Iterate over the episodes, unchecked. Read an episode's columns before taking the next one.

    Raises:
        UserError: A file is missing or cannot be read; also while iterating.
    """
    if metadata.data_format == "hdf5":
        with open_hdf5(metadata.file) as file:
            yield _from_hdf5(file, metadata, parts)
    else:
        yield _from_minari(metadata, parts)


def _from_hdf5(
    file: Hdf5File, metadata: MinariMetadata, parts: Sequence[Part]
) -> Iterator[Episode]:
    """Read episodes from an HDF5 file, without their infos, which may be large."""
    keys = ("actions", "rewards", "terminations", "truncations")
    names = [f"observations/{part.key}" if part.key else "observations" for part in parts]
    for index in range(metadata.total_episodes):
        source = f"{metadata.source}, episode {index}"
        found = file.arrays([f"episode_{index}/{name}" for name in (*keys, *names)])
        columns = [
            _column(source, name, values)
            for name, values in zip((*keys, *names), found, strict=True)
        ]
        yield Episode(
            source,
            tuple(columns[len(keys) :]),
            **dict(zip(keys, columns[: len(keys)], strict=True)),
        )


def _column(source: str, name: str, values: Hdf5Array | str) -> Column:
    """A column of an array of this file; links and external arrays are not followed."""
    if isinstance(values, str):
        found = {"nothing": "nothing", "group": "a group"}.get(values, "a link to another place")
        raise UserError(
            f"{source}: found {found} at '{name}', expected the file's own array. The dataset is "
            f"damaged. {REPAIR}"
        )
    return Column(source, name.removeprefix("observations/"), values)


def _from_minari(metadata: MinariMetadata, parts: Sequence[Part]) -> Iterator[Episode]:
    """Read episodes of other formats through Minari, which does not make an environment here."""
    try:
        import minari  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(
            f"{metadata.source} is kept as {metadata.data_format}, which needs the package "
            f"minari; run: {PIP}"
        ) from error
    index = 0
    try:
        for episode in minari.load_dataset(metadata.dataset_id):
            source = f"{metadata.source}, episode {index}"
            observations = tuple(
                Column(
                    source,
                    part.key or "observations",
                    np.asarray(
                        episode.observations[part.key] if part.key else episode.observations
                    ),
                )
                for part in parts
            )
            columns = {
                key: Column(source, key, np.asarray(getattr(episode, key)))
                for key in ("actions", "rewards", "terminations", "truncations")
            }
            yield Episode(source, observations, **columns)
            index += 1
    # Minari's storage layers raise many types of errors.
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{metadata.source}, episode {index}: cannot be read "
            f"({shortened(in_one_line(error))}). {REPAIR}"
        ) from error
