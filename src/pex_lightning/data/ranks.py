"""What the processes of a distributed run tell each other."""

from __future__ import annotations

from typing import TypeVar

import torch

T = TypeVar("T")


def gathered(mine: T, world_size: int) -> list[T]:
    """What every process has, by its rank; all of them have to call this."""
    everyone = [mine] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(everyone, mine)
    return everyone
