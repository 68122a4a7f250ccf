"""Transitions: the common output of all dataset readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict

from pex_lightning.errors import UserError

ACTION_MARGIN = 1e-5
"""D4RL's clipping margin, as a fraction of half the action range."""

ACTION_TOLERANCE = 1e-3
"""Accepted distance of an action from its space, as a fraction of half the action range."""

_CHECK_ROWS = 65_536


@dataclass(frozen=True)
class Transitions:
    """N transitions in TorchRL's TED layout.

    Entries (batch size [N]): `observation` [N, obs_dim] float32, `action` [N, act_dim] float32,
    `("next", "observation")` [N, obs_dim] float32, `("next", "reward")` [N, 1] float32, and
    `("next", "terminated")`, `("next", "truncated")`, `("next", "done")` [N, 1] bool, where done =
    terminated or truncated.

    Only `terminated` masks the value of the next observation. `truncated` means that the episode
    did not terminate but the next row does not continue it.

    So that observations and next observations can share memory, `rows` may include rows that are
    not transitions.

    Attributes:
        rows: All rows, batch size [R].
        source: The file or dataset id, for error messages.
        kept: [N] int32, indices of the transitions, ascending; None if every row is one.
    """

    rows: TensorDict
    source: str
    kept: torch.Tensor | None = None

    @classmethod
    def from_tensors(
        cls,
        *,
        observation: torch.Tensor,
        action: torch.Tensor,
        next_observation: torch.Tensor,
        reward: torch.Tensor,
        terminated: torch.Tensor,
        truncated: torch.Tensor,
        source: str,
        kept: torch.Tensor | None = None,
    ) -> Transitions:
        """Group columns into transitions; only columns of another type are copied.

        Args:
            observation: [R, obs_dim].
            action: [R, act_dim].
            next_observation: [R, obs_dim].
            reward: [R] or [R, 1].
            terminated: [R] or [R, 1], bool.
            truncated: [R] or [R, 1], bool.
            source: The file or dataset id, for error messages.
            kept: [N] int32, indices of the transitions, ascending; None if every row is one.

        Raises:
            UserError: Lengths or shapes disagree, or there are no rows.
        """
        _check_lengths(
            source,
            observation=observation,
            action=action,
            next_observation=next_observation,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
        )
        size = len(observation)
        terminated = terminated.reshape(size, 1).bool()
        truncated = truncated.reshape(size, 1).bool()
        following = TensorDict(
            {
                "observation": next_observation.float(),
                "reward": reward.reshape(size, 1).float(),
                "terminated": terminated,
                "truncated": truncated,
                "done": terminated | truncated,
            },
            batch_size=[size],
        )
        rows = TensorDict(
            {"observation": observation.float(), "action": action.float(), "next": following},
            batch_size=[size],
        )
        return cls(rows=rows, source=source, kept=kept)

    def __len__(self) -> int:
        return self.rows.batch_size[0] if self.kept is None else len(self.kept)

    @property
    def tensordict(self) -> TensorDict:
        """The transitions, batch size [N]; a copy if there are other rows."""
        if self.kept is None:
            return self.rows
        kept: TensorDict = self.rows[self.kept.long()]
        return kept

    @property
    def observation(self) -> torch.Tensor:
        """Observations before the action, [N, obs_dim] float32."""
        return self._column("observation")

    @property
    def action(self) -> torch.Tensor:
        """Actions, [N, act_dim] float32."""
        return self._column("action")

    @property
    def next_observation(self) -> torch.Tensor:
        """Observations after the action, [N, obs_dim] float32."""
        return self._column("next", "observation")

    @property
    def reward(self) -> torch.Tensor:
        """Raw rewards, [N, 1] float32."""
        return self._column("next", "reward")

    @property
    def obs_dim(self) -> int:
        """Size of one observation."""
        return int(self.rows["observation"].shape[1])

    @property
    def action_dim(self) -> int:
        """Size of one action."""
        return int(self.rows["action"].shape[1])

    def transform_rewards_(self, transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Apply `transform` to the rewards [R, 1] in place."""
        reward = _tensor(self.rows, "next", "reward")
        reward.copy_(transform(reward))

    def check_actions(self, low: Sequence[float], high: Sequence[float], *, space: str) -> None:
        """Check that actions lie in [low, high].

        Args:
            low: Smallest action, one number per action dimension.
            high: Largest action.
            space: Name of the action space, for the error message.

        Raises:
            UserError: An action lies outside by more than `ACTION_TOLERANCE` of half the range.
        """
        lower, upper = _bounds(low, high, -ACTION_TOLERANCE)
        bad = self._where(lambda block: (block < lower) | (block > upper), "action")
        if len(bad):
            action = self.action[bad[0]]
            column = int(((action < lower) | (action > upper)).nonzero()[0])
            raise UserError(
                f"{self.source}: {len(bad)} of {len(self)} actions lie outside the action space "
                f"of {space}. The first is transition {bad[0]}: number {column} of its action is "
                f"{float(action[column]):g}, expected {low[column]:g} to {high[column]:g}. Take "
                f"the environment that the data were recorded in, or rescale the actions."
            )

    def clip_actions_(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Clip the actions in place to slightly inside their space.

        A squashed policy has no finite density at the bounds, so D4RL clips to ±(1 − 1e-5). In
        general the limits are low + 1e-5·h and high − 1e-5·h, with h half the range. Infinite
        bounds do not clip.

        Args:
            low: Smallest action, one number per action dimension.
            high: Largest action.
        """
        lower, upper = _bounds(low, high, ACTION_MARGIN)
        action = _tensor(self.rows, "action")
        torch.clamp(action, lower, upper, out=action)

    def _column(self, *key: str) -> torch.Tensor:
        values = _tensor(self.rows, *key)
        return values if self.kept is None else values[self.kept.long()]

    def _where(self, test: Callable[[torch.Tensor], torch.Tensor], *key: str) -> np.ndarray:
        """Indices of transitions with a value that passes the test, computed in blocks."""
        values = _tensor(self.rows, *key)
        found = [
            start + test(values[start : start + _CHECK_ROWS]).any(dim=1).nonzero()[:, 0].numpy()
            for start in range(0, len(values), _CHECK_ROWS)
        ]
        rows = np.concatenate(found)
        if self.kept is None or len(rows) == 0:
            return rows
        kept = self.kept.numpy()
        places = np.searchsorted(kept, rows)
        transitions: np.ndarray = places[kept[np.minimum(places, len(kept) - 1)] == rows]
        return transitions


def _tensor(tensordict: TensorDict, *key: str) -> torch.Tensor:
    value = tensordict.get(key)
    if not isinstance(value, torch.Tensor):
        raise KeyError(f"transitions have no tensor at {key}")
    return value


def _bounds(
    low: Sequence[float], high: Sequence[float], margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    lower = np.asarray(low, dtype=np.float64)
    upper = np.asarray(high, dtype=np.float64)
    inset = margin * (upper - lower) / 2
    # If one end is infinite, the range has no finite width and the other end is not moved.
    inset = np.where(np.isfinite(inset), inset, 0.0)
    return torch.from_numpy(lower + inset).float(), torch.from_numpy(upper - inset).float()


def _check_lengths(source: str, **columns: torch.Tensor) -> None:
    size = len(columns["observation"])
    if size == 0:
        raise UserError(f"{source}: there are no transitions in it. Give a dataset that has some.")
    lengths = {name: len(values) for name, values in columns.items()}
    if set(lengths.values()) != {size}:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{source}: columns differ in length ({listed}); they must be equal.")
    for name, values in columns.items():
        matrix = name in ("observation", "action", "next_observation")
        right = values.ndim == 2 if matrix else values.numel() == size
        if not right:
            expected = f"[{size}, size]" if matrix else f"[{size}] or [{size}, 1]"
            raise UserError(
                f"{source}: {name} has shape {list(values.shape)}, expected {expected}."
            )
    if columns["observation"].shape != columns["next_observation"].shape:
        raise UserError(
            f"{source}: observation has shape {list(columns['observation'].shape)}, "
            f"next_observation {list(columns['next_observation'].shape)}; they must be equal."
        )
