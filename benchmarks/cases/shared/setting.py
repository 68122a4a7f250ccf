"""What all cases share: sizes, IQL's numbers, the data, and how a case is run in its turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

ENVIRONMENT = "pex_lightning/AntMaze-UMaze-v0"
OBS_DIM, ACTION_DIM, BATCH = 29, 8, 256
HIDDEN = (256, 256)
NUM_Q = 2
CHUNK = 64
UPDATES_PER_STEP = 2.0
"""Of the online loop, as shipped."""
EXPECTILE, BETA, GAMMA, TAU, LEARNING_RATE = 0.7, 3.0, 0.99, 0.005, 3e-4
PRECISIONS = ("float32", "bf16")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Work:
    """A case that is set up and ready to be timed.

    Attributes:
        step: Does `units` of what is counted.
        parameters: All that is learnt, flat `[P]`; a copy.
        finish: Waits for what `step` may have left running.
        units: Updates (or episodes, or environment steps) a call of `step`.
        lead_in: Whether a step goes untimed before every block, and several before the first; not
            where a step takes seconds and is warmed up already.
    """

    step: Callable[[], None]
    parameters: Callable[[], Floats]
    finish: Callable[[], None] = lambda: None
    units: int = 1
    lead_in: bool = True


class Gate(Protocol):
    """What a training loop calls after every step; `benchmarks.speed.gate` has the real one."""

    def passed(self, count: int) -> bool:
        """Note that `count` units have been done since the start, and wait for the next turn.

        Returns:
            Whether to go on; False once there are no turns any more.
        """
        ...


class Arrays(NamedTuple):
    """`CHUNK` batches: `[K, B, obs_dim]`, `[K, B, action_dim]`, `[K, B]` for the rest."""

    observation: Floats
    action: Floats
    reward: Floats
    terminated: npt.NDArray[np.bool_]
    next_observation: Floats


def arrays() -> Arrays:
    """The same numbers for every case."""
    rng = np.random.default_rng(0)
    rows = (CHUNK, BATCH)
    return Arrays(
        rng.standard_normal((*rows, OBS_DIM), np.float32),
        rng.uniform(-1, 1, (*rows, ACTION_DIM)).astype(np.float32),
        rng.standard_normal(rows, np.float32),
        rng.random(rows) < 0.1,
        rng.standard_normal((*rows, OBS_DIM), np.float32),
    )


def autocast(precision: str) -> Any:
    """The context that Lightning's `32-true` or `bf16-mixed` opens around an update.

    As there, casts are not cached: a cast of before a step is not that of the weights after it.
    """
    import torch  # noqa: PLC0415

    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def flat(tensors: Any) -> Floats:
    """Torch parameters as one array, copied."""
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])
