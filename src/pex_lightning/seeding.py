"""Independent random streams from one seed."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def global_seed() -> int:
    """The seed given to `seed_everything` (`--seed_everything`), else torch's own."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return int(value) if value is not None else torch.initial_seed() % 2**32


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, for example `("replay", seed, rank, step)`.

    Streams with different parts are independent, so that a run can be taken up at any step
    without storing a generator's state.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in parts]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def random_state() -> dict[str, Any]:
    """The state of torch's generators, for a checkpoint."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextlib.contextmanager
def own_random_stream(seed: int, device: torch.device) -> Iterator[None]:
    """Use random streams seeded with `seed` on the CPU and `device`; then restore the old ones."""
    if device.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            # `torch.manual_seed` would also seed GPUs, whose streams are not restored here.
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    with torch.random.fork_rng(devices=[index]), torch.cuda.device(index):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)
        yield
