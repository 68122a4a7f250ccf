"""The input of an update, a batch of transitions, and its result, the losses."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor

from pex_lightning.errors import UserError

Diagnostics = Mapping[str, Tensor]
"""Detached scalars on the training device, to be logged under these names."""


TERM = "term "
"""How the names of losses begin where they stand beside diagnostics."""


class Batch(NamedTuple):
    """`B` transitions: `[B, obs_dim]`, `[B, action_dim]`, and `[B]` for the rest.

    `terminated` is bool; reaching a time limit does not set it.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_observation: Tensor


class Losses(NamedTuple):
    """The losses of one batch.

    Attributes:
        terms: One scalar for each parameter group, by the group's name. The gradient of a term is
            zero for the parameters of every other group.
        diagnostics: Scalars to log.
    """

    terms: Mapping[str, Tensor]
    diagnostics: Diagnostics

    @property
    def total(self) -> Tensor:
        """The sum of the terms; its backward pass gives each group the gradient of its own term."""
        return functools.reduce(operator.add, self.terms.values())

    def only(self, groups: AbstractSet[str]) -> Losses:
        """The terms of some groups, without diagnostics, which may be of others."""
        return Losses({name: t for name, t in self.terms.items() if name in groups}, {})

    def results(self) -> Diagnostics:
        """What an update gives back: the diagnostics, and the terms under `TERM` and their name."""
        return {**self.diagnostics, **{TERM + name: t.detach() for name, t in self.terms.items()}}

    def check_terms(self, groups: AbstractSet[str]) -> None:
        """Make sure that there is one term for each parameter group.

        Raises:
            UserError: The names differ.
        """
        if self.terms.keys() != groups:
            raise UserError(
                f"losses() has the terms {', '.join(self.terms)}, but groups() has the groups "
                f"{', '.join(sorted(groups))}. A method needs one term for each group, by its name."
            )


def batches(chunk: TensorDictBase) -> Iterator[Batch]:
    """Cut a chunk `[K, B]` in TorchRL's TED layout into its `K` batches."""
    columns = (
        chunk.get("observation"),
        chunk.get("action"),
        chunk.get(("next", "reward")).squeeze(-1),
        chunk.get(("next", "terminated")).squeeze(-1),
        chunk.get(("next", "observation")),
    )
    yield from map(Batch._make, zip(*columns, strict=True))
