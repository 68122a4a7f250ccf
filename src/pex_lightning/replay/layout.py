"""What the rows of a stored replay buffer consist of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import shortened


@dataclass(frozen=True)
class RowSizes:
    """How many numbers a row of a replay buffer has.

    Attributes:
        observation: Numbers of an observation.
        action: Numbers of an action.
        members: Members of the policy that acted.
    """

    observation: int
    action: int
    members: int

    @classmethod
    def of(cls, env: EnvSpec, members: Sequence[str]) -> RowSizes:
        """Sizes of rows that a policy with these members collects in an environment."""
        return cls(env.obs_dim, env.action_dim, len(members))

    def columns(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Type and shape of a row in each column of a file."""
        return {
            "observation": (torch.float32, (self.observation,)),
            "action": (torch.float32, (self.action,)),
            "next/observation": (torch.float32, (self.observation,)),
            "next/reward": (torch.float32, (1,)),
            "next/done": (torch.bool, (1,)),
            "next/terminated": (torch.bool, (1,)),
            "next/truncated": (torch.bool, (1,)),
            "policy_index": (torch.int64, ()),
            "choice_probs": (torch.float32, (self.members,)),
        }


def problems(columns: Mapping[Any, Any], rows: int, sizes: RowSizes) -> Iterator[str]:
    """Describe what is wrong with the columns of a file; take the first, later ones follow from it.

    Args:
        columns: The content of the file.
        rows: Number of rows that it should have.
        sizes: How many numbers each has.
    """
    expected = sizes.columns()
    if columns.keys() != expected.keys():
        found = shortened(", ".join(map(str, columns)))
        yield f"it holds {found}, expected {', '.join(expected)}"
    for key, (dtype, shape) in expected.items():
        value = columns[key]
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            yield f"{key} is not an array"
        if value.dtype is not dtype or value.shape != (rows, *shape):
            wanted = f"{dtype} of shape {[rows, *shape]}"
            yield f"{key} is {value.dtype} of shape {list(value.shape)}, expected {wanted}"
        # A file of few bytes can hold an array of any size that repeats its numbers.
        if not value.is_contiguous() or value.is_meta:
            yield f"{key} has fewer numbers than its shape says"
        if dtype.is_floating_point and not value.isfinite().all():
            yield f"{key} has NaN or infinity"
    flags = (columns[f"next/{key}"] for key in ("done", "terminated", "truncated"))
    done, terminated, truncated = flags
    if not torch.equal(done, terminated | truncated):
        yield "next/done differs from next/terminated and next/truncated"
    member, probs = columns["policy_index"], columns["choice_probs"]
    if ((member < 0) | (member >= sizes.members)).any():
        yield f"policy_index is beyond the {sizes.members} members of the policy"
    # A little more than 1 by rounding.
    if ((probs < 0) | (probs > 1.001)).any():
        yield "choice_probs are no probabilities"
