"""What an update takes, a batch of transitions, and what it computes from it, the losses."""

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
"""Scalars to log, by name, detached and on the device."""


class Batch(NamedTuple):
    """``B`` transitions: ``[B, obs_dim]``, ``[B, action_dim]``, and ``[B]`` for the rest.

    ``terminated`` is bool and never set by a time limit.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_observation: Tensor


class Losses(NamedTuple):
    """The losses of one batch.

    Attributes:
        terms: One scalar for each parameter group, by the group's name. A term sends gradient to
            its own group and nowhere else.
        diagnostics: Scalars to log.
    """

    terms: Mapping[str, Tensor]
    diagnostics: Diagnostics

    @property
    def total(self) -> Tensor:
        """The sum of the terms: one backward gives each group the gradient of its own term."""
        return functools.reduce(operator.add, self.terms.values())

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
    """Cut a chunk ``[K, B]`` in TorchRL's TED layout into its ``K`` batches."""
    columns = (
        chunk.get("observation"),
        chunk.get("action"),
        chunk.get(("next", "reward")).squeeze(-1),
        chunk.get(("next", "terminated")).squeeze(-1),
        chunk.get(("next", "observation")),
    )
    yield from map(Batch._make, zip(*columns, strict=True))
