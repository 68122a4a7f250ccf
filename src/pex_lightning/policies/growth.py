"""When a policy set grows: what is remembered of it, in buffers, so that checkpoints have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_SCHEDULED, _EVALUATIONS, _SINCE_BEST = range(3)


class Growth(nn.Module):
    """Counts growths and the evaluations since the best one.

    What it decides by is kept on the host too, so that asking it does not wait for a device.

    Args:
        places: How many times the set can grow.
        at: Gradient steps at which it is to grow, in order.
        patience: Evaluations without a better return after which it is to grow; None for never.

    Attributes:
        steps: Gradient step of every growth so far, `[places]` int64; -1 for those to come.
        counts: Growths of the schedule, evaluations, and evaluations since the best or the last
            growth, `[3]` int64.
        best: The largest return, a float64 scalar; 0 before the first evaluation.
    """

    steps: Tensor
    counts: Tensor
    best: Tensor

    def __init__(self, places: int, at: Sequence[int], patience: int | None) -> None:
        super().__init__()
        self._best = 0.0
        self._at, self._patience = list(at), patience
        self.register_buffer("steps", torch.full((places,), -1))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("best", torch.zeros((), dtype=torch.float64))
        self._take_to_host()

    @property
    def count(self) -> int:
        """Growths so far."""
        return sum(step >= 0 for step in self._steps)

    @property
    def last(self) -> int:
        """The gradient step of the last growth; 0 before the first."""
        return max(0, *self._steps)

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self.count == len(self._steps)

    def due(self, step: int) -> bool:
        """Whether the schedule asks for a growth by this gradient step."""
        done = self._counts[_SCHEDULED]
        return not self.full and done < len(self._at) and self._at[done] <= step

    def stalled(self, value: float) -> bool:
        """Note the return of an evaluation; whether it is time to grow because of it."""
        better = self._counts[_EVALUATIONS] == 0 or value > self._best
        self._counts[_EVALUATIONS] += 1
        self._counts[_SINCE_BEST] = 0 if better else self._counts[_SINCE_BEST] + 1
        if better:
            self._best = value
        self._give_to_device()
        return (
            self._patience is not None
            and not self.full
            and self._counts[_SINCE_BEST] >= self._patience
        )

    def record(self, step: int, *, scheduled: bool) -> int:
        """Note a growth; returns its place."""
        place = self.count
        self._steps[place] = step
        self._counts[_SCHEDULED] += scheduled
        self._counts[_SINCE_BEST] = 0
        self._give_to_device()
        return place

    def _take_to_host(self) -> None:
        self._steps: list[int] = self.steps.tolist()
        self._counts: list[int] = self.counts.tolist()
        self._best = float(self.best)

    def _give_to_device(self) -> None:
        self.steps.copy_(torch.tensor(self._steps))
        self.counts.copy_(torch.tensor(self._counts))
        self.best.fill_(self._best)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._take_to_host()
