"""A copy of an acting policy that other processes act with, its weights in shared memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from pex_lightning.policies.acting import ActingPolicy


class SharedPolicy:
    """A policy's copy on the CPU, brought up to date by :meth:`publish`.

    The copy's parameters and buffers are views of one vector a dtype in shared memory, which a
    process that is sent ``replica`` maps, so that publishing is one copy, from a GPU too, and
    nothing is pickled.

    Publish only while nobody acts with the copy: a reader could see half of each.

    Args:
        policy: The policy that learns.

    Attributes:
        replica: The copy, to be sent to a process when it is started.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        self.replica = copy.deepcopy(policy).to("cpu").requires_grad_(False)
        self._vectors: list[tuple[Tensor, list[Tensor]]] = []
        sources, copies = list(_tensors(policy)), list(_tensors(self.replica))
        for dtype in dict.fromkeys(tensor.dtype for tensor in sources):
            chosen = [i for i, tensor in enumerate(sources) if tensor.dtype == dtype]
            sizes = [sources[i].numel() for i in chosen]
            vector = torch.empty(sum(sizes), dtype=dtype)
            vector.share_memory_()  # type: ignore[no-untyped-call]
            for i, part in zip(chosen, torch.split(vector, sizes), strict=True):
                copies[i].data = part.view(copies[i].shape)
            self._vectors.append((vector, [sources[i] for i in chosen]))
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the policy's weights of this moment."""
        for vector, sources in self._vectors:
            flat = [source.reshape(-1) for source in sources]
            if all(source.device.type == "cpu" for source in sources):
                torch.cat(flat, out=vector)
            else:
                vector.copy_(torch.cat(flat))


def _tensors(policy: ActingPolicy) -> Iterator[Tensor]:
    """Parameters and buffers, in an order that a copy of the policy shares."""
    yield from policy.parameters()
    yield from policy.buffers()
