"""A copy of an acting policy in shared memory, with which other processes act."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from pex_lightning.errors import UserError, in_one_line
from pex_lightning.policies.acting import ActingPolicy


class SharedPolicy:
    """Keeps a copy of a policy on the CPU, which `publish` updates.

    The copy's parameters and buffers are views of one vector per dtype in shared memory. Processes
    that are sent `replica` map the same memory, so publishing copies once per dtype, also from a
    GPU, and pickles nothing.

    Publish only while no process acts with the copy, which could otherwise mix old and new weights.

    Args:
        policy: The policy that learns.

    Attributes:
        replica: The copy, to be sent to each process at its start.

    Raises:
        UserError: There is no room in shared memory.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        self.replica = copy.deepcopy(policy).to("cpu").requires_grad_(False)
        self._policy = policy
        self._vectors: list[tuple[Tensor, list[int]]] = []
        sources, copies = list(_tensors(policy)), list(_tensors(self.replica))
        for dtype in dict.fromkeys(tensor.dtype for tensor in sources):
            chosen = [i for i, tensor in enumerate(sources) if tensor.dtype == dtype]
            sizes = [sources[i].numel() for i in chosen]
            vector = torch.empty(sum(sizes), dtype=dtype)
            _share(vector)
            for i, part in zip(chosen, torch.split(vector, sizes), strict=True):
                copies[i].data = part.view(copies[i].shape)
            self._vectors.append((vector, chosen))
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the policy's present weights into shared memory."""
        # Looked up anew, since a tensor may have been put in the place of another.
        sources = list(_tensors(self._policy))
        for vector, chosen in self._vectors:
            flat = [sources[i].reshape(-1) for i in chosen]
            if all(part.device.type == "cpu" for part in flat):
                torch.cat(flat, out=vector)
            else:
                vector.copy_(torch.cat(flat))


def _share(vector: Tensor) -> None:
    """Move a vector to shared memory.

    Raises:
        UserError: There is no room in it.
    """
    try:
        vector.share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--data.num_collectors: shared memory (/dev/shm) has no room for the policy's "
            f"{vector.nbytes:,} bytes ({in_one_line(error)}). Give it more, as by --shm-size of a "
            "container, or collect in the learner's process with --data.num_collectors 0."
        ) from error


def _tensors(policy: ActingPolicy) -> Iterator[Tensor]:
    """Parameters and buffers, in the same order for a policy and its copy."""
    yield from policy.parameters()
    yield from policy.buffers()
