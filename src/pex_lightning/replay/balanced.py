"""Balanced replay: rows of the dataset and of what was collected, by one set of priorities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import ReplayBuffer

from pex_lightning.errors import UserError
from pex_lightning.losses.density import LARGEST_PRIORITY, density_priority
from pex_lightning.replay.density import DensityLearner
from pex_lightning.replay.mix import LEARNING_KEYS, KeptRows, as_chunk, draw_rows

TEMPERATURE = 5.0
_INPUTS = ("observation", "action")


class BalancedReplay:
    """Draws rows with probabilities that a learnt density ratio sets (Off2On, arXiv 2107.00591).

    Offline and online rows have one index and are drawn by their priorities, so that offline rows
    that resemble what the policy does now are drawn more often. A chunk is drawn at once. Then the
    density ratio takes as many steps as the chunk has batches, each on a uniform batch of both
    kinds, and the priorities of the drawn rows are computed anew for the next chunk.

    An offline row starts with priority 1. A row that is collected enters with the largest
    priority that there has been, at first the one that makes the share of offline rows
    `offline_fraction`.

    Args:
        offline: The dataset.
        capacity: Rows of the ring buffer that holds what is collected.
        offline_fraction: Share of offline rows at first, between 0 and 1.
        seed: Seed of the density ratio's parameters.
        device: Where the density ratio learns; priorities stay on the CPU.
    """

    def __init__(
        self,
        offline: ReplayBuffer,
        capacity: int,
        offline_fraction: float,
        seed: int,
        device: torch.device,
    ) -> None:
        sampler = offline.sampler
        self._offline = offline
        self._kept = sampler.kept if isinstance(sampler, KeptRows) else None
        self._offline_rows = len(offline) if self._kept is None else len(self._kept)
        self._priority = torch.ones(self._offline_rows + capacity)
        self._offline_fraction = offline_fraction
        self._largest: float | None = None
        stored: TensorDictBase = offline.storage[:]
        obs_dim, action_dim = (int(stored.get(key).shape[-1]) for key in _INPUTS)
        self._density = DensityLearner(obs_dim, action_dim, seed, device)

    @property
    def offline_priority(self) -> Tensor:
        """Priorities of the dataset's transitions, a view."""
        return self._priority[: self._offline_rows]

    @property
    def online_priority(self) -> Tensor:
        """Priorities of the ring buffer's places, a view."""
        return self._priority[self._offline_rows :]

    def added(self, places: Tensor) -> None:
        """Rows were written to these places of the ring buffer."""
        if self._largest is not None:
            self.online_priority[places] = self._largest

    def draw(self, online: ReplayBuffer, *, updates: int, batch_size: int, seed: int) -> TensorDict:
        """Draw a chunk `[updates, batch_size]`, and renew the priorities of its rows.

        Args:
            online: What was collected; at least one row.
            updates: Number of batches.
            batch_size: Rows per batch.
            seed: Random seed.

        Raises:
            UserError: The density ratio is not finite.
        """
        rows = len(online)
        if self._largest is None:
            share = self._offline_fraction
            self._largest = (1.0 - share) / share * self._offline_rows / rows
            self.online_priority[:rows] = self._largest
        drawn = self._drawn(rows, updates * batch_size, seed)
        columns = self._columns(online, drawn)
        shape = (updates, batch_size)
        known = draw_rows(self._offline, shape, seed + 1, _INPUTS)
        self._density.learn(known, draw_rows(online, shape, seed + 2, _INPUTS))
        priority = density_priority(
            self._density.of(columns[:2]),
            self._density.of([column[-1] for column in known]),
            TEMPERATURE,
        )
        if not priority.isfinite().all():
            raise UserError(
                "the density ratio of balanced replay has diverged. The largest numbers that it "
                f"learnt from now: observation {float(columns[0].abs().max()):.3g}, action "
                f"{float(columns[1].abs().max()):.3g}. Scale them, or give --data.mix fixed."
            )
        self._priority[drawn] = priority
        self._largest = max(self._largest, float(priority.max()))
        split = [column.view(*shape, *column.shape[1:]) for column in columns]
        return as_chunk(split, shape)

    def state_dict(self, places: Tensor) -> dict[str, Any]:
        """What a resume needs.

        Args:
            places: Where the ring buffer's rows lie, in the order in which they were collected.
        """
        return {
            "density": self._density.state_dict(),
            "offline": self.offline_priority.clone(),
            "online": self.online_priority[places],
            "largest": self._largest,
        }

    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """Undo `state_dict`.

        Args:
            state: The state.
            rows: How many of the rows that were collected last are in the ring buffer, from its
                first place on. Rows that a smaller buffer had forgotten enter as new ones.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RuntimeError: It is not the state of
                such a replay.
        """
        largest = state["largest"]
        if largest is None:
            # Written before the first chunk.
            return
        if type(largest) is not float or not 0.0 < largest < float("inf"):
            raise ValueError(f"the largest priority is {largest!r:.40}")
        known, collected = state["offline"], state["online"][-rows:]
        older = rows - collected.shape[0]
        self.online_priority[:older] = largest
        ours = (self.offline_priority, self.online_priority[older:rows])
        for given, own in zip((known, collected), ours, strict=True):
            if given.shape != own.shape or given.dtype is not own.dtype:
                raise ValueError(f"priorities of {list(given.shape)} for {list(own.shape)} rows")
            limit = max(largest, LARGEST_PRIORITY)
            if not ((given > 0) & (given <= limit)).all():
                raise ValueError("priorities beyond their limits")
            own.copy_(given)
        self._density.load_state_dict(state["density"])
        self._largest = largest

    def _drawn(self, rows: int, count: int, seed: int) -> Tensor:
        """Draw `count` rows by priority, as `[count]` places in `_priority`."""
        generator = torch.Generator().manual_seed(seed)
        sums = self._priority[: self._offline_rows + rows].cumsum(0, dtype=torch.float64)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        places = torch.searchsorted(sums, uniform * sums[-1], right=True)
        return places.clamp_(max=len(sums) - 1)

    def _columns(self, online: ReplayBuffer, drawn: Tensor) -> list[Tensor]:
        """The columns `LEARNING_KEYS` of rows `[count]`, each `[count, ...]`."""
        is_online = drawn >= self._offline_rows
        known = drawn.clamp(max=self._offline_rows - 1)
        if self._kept is not None:
            known = self._kept[known].long()
        found = is_online.nonzero().squeeze(-1)
        places = drawn[found] - self._offline_rows
        offline_rows: TensorDictBase = self._offline.storage[:]
        online_rows: TensorDictBase = online.storage[:]
        return [
            offline_rows.get(key)
            .index_select(0, known)
            .index_copy_(0, found, online_rows.get(key).index_select(0, places))
            for key in LEARNING_KEYS
        ]
