"""Transitions: what every dataset reader hands to the replay buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tensordict import TensorDict

from pex_lightning.errors import UserError

if TYPE_CHECKING:
    from pex_lightning.envs.make import EnvSpec

ACTION_MARGIN = 1e-5
"""D4RL's clip, as a share of half the action range: ±(1-1e-5) for actions in [-1, 1]."""

ACTION_TOLERANCE = 1e-3
"""How far outside its space an action may lie, as a share of half the action range."""

_CHECK_ROWS = 65_536


@dataclass(frozen=True)
class DatasetInfo:
    """Where transitions come from; written beside results and into checkpoints.

    Attributes:
        name: Short name: the file's name without its ending, or the dataset's id.
        path: The file that was read, absolute.
        fingerprint: First 16 hexadecimal digits of a SHA-256 over the arrays that were used (as
            float32 or bool), so that it does not depend on how the file is compressed.
        rows: Rows in the file.
        transitions: Transitions kept.
        episodes: Complete episodes in the file: those that end in a terminal or a time-out.
        terminals: Rows with a terminal.
        timeouts: Rows with a time-out, read from the file or derived from the episode length.
    """

    name: str
    path: str
    fingerprint: str
    rows: int
    transitions: int
    episodes: int
    terminals: int
    timeouts: int


@dataclass(frozen=True)
class Transitions:
    """N transitions in TorchRL's TED layout.

    Entries of `tensordict` (batch size [N]): `observation` [N, obs_dim] float32, `action`
    [N, act_dim] float32, `("next", "observation")` [N, obs_dim] float32, `("next", "reward")`
    [N, 1] float32, and `("next", "terminated")`, `("next", "truncated")`, `("next", "done")`
    [N, 1] bool, where done = terminated or truncated.

    Only `terminated` masks the value of the next observation. `truncated` says that the row after
    this one does not continue the episode although the episode did not terminate.

    Attributes:
        tensordict: The transitions.
        source: The file or dataset id; named in errors.
    """

    tensordict: TensorDict
    source: str

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
    ) -> Transitions:
        """Group columns into transitions. Nothing is copied where the types are right already.

        Args:
            observation: [N, obs_dim].
            action: [N, act_dim].
            next_observation: [N, obs_dim].
            reward: [N] or [N, 1].
            terminated: [N] or [N, 1], bool.
            truncated: [N] or [N, 1], bool.
            source: The file or dataset id; named in errors.

        Raises:
            UserError: Lengths or shapes do not fit together, or there are no rows.
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
        tensordict = TensorDict(
            {"observation": observation.float(), "action": action.float(), "next": following},
            batch_size=[size],
        )
        return cls(tensordict=tensordict, source=source)

    def __len__(self) -> int:
        return len(self.observation)

    @property
    def observation(self) -> torch.Tensor:
        """Observations before the action, [N, obs_dim] float32."""
        return _tensor(self.tensordict, "observation")

    @property
    def action(self) -> torch.Tensor:
        """Actions, [N, act_dim] float32."""
        return _tensor(self.tensordict, "action")

    @property
    def next_observation(self) -> torch.Tensor:
        """Observations after the action, [N, obs_dim] float32."""
        return _tensor(self.tensordict, "next", "observation")

    @property
    def reward(self) -> torch.Tensor:
        """Raw rewards, [N, 1] float32."""
        return _tensor(self.tensordict, "next", "reward")

    @property
    def obs_dim(self) -> int:
        """Size of one observation."""
        return self.observation.shape[1]

    @property
    def action_dim(self) -> int:
        """Size of one action."""
        return self.action.shape[1]

    def check_finite(self) -> None:
        """Refuse NaN and infinity.

        Raises:
            UserError: Names the column, how many transitions are bad, and the first of them.
        """
        columns = {
            "observation": self.observation,
            "action": self.action,
            "next observation": self.next_observation,
            "reward": self.reward,
        }
        for name, values in columns.items():
            bad = _rows_where(values, lambda block: ~torch.isfinite(block))
            if len(bad):
                raise UserError(
                    f"{self.source}: {name} is NaN or infinite in {len(bad)} of {len(self)} "
                    f"transitions, first in transition {bad[0]}. Remove or repair these rows."
                )

    def check_against(self, spec: EnvSpec) -> None:
        """Refuse transitions that cannot come from the environment.

        Args:
            spec: The environment that the policy will act in.

        Raises:
            UserError: The observation or action size differs from the environment's, or an action
                lies outside the action space by more than `ACTION_TOLERANCE` of half its range.
        """
        for name, found, expected in (
            ("observations", self.obs_dim, spec.obs_dim),
            ("actions", self.action_dim, spec.action_dim),
        ):
            if found != expected:
                raise UserError(
                    f"{self.source}: its {name} have {found} numbers, those of environment "
                    f"{spec.id} have {expected}. Take the environment that the data were recorded "
                    f"in (--data.env, --data.env_kwargs), or another file (--data.path)."
                )
        self.check_actions(spec.action_low, spec.action_high, space=f"environment {spec.id}")

    def check_actions(self, low: Sequence[float], high: Sequence[float], *, space: str) -> None:
        """Refuse actions outside [low, high].

        Args:
            low: Smallest action, one number per action dimension.
            high: Largest action.
            space: Whose bounds these are; named in the error.

        Raises:
            UserError: An action lies outside by more than `ACTION_TOLERANCE` of half the range.
        """
        lower, upper = _bounds(low, high, -ACTION_TOLERANCE)
        bad = _rows_where(self.action, lambda block: (block < lower) | (block > upper))
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
        """Clip the actions, in place, a little inside their space.

        D4RL clips to ±(1 − 1e-5), because a squashed policy gives the bounds themselves no finite
        density. For any bounds that is low + 1e-5·h to high − 1e-5·h, with h half the range;
        infinite bounds leave an action as it is.

        Args:
            low: Smallest action, one number per action dimension.
            high: Largest action.
        """
        lower, upper = _bounds(low, high, ACTION_MARGIN)
        torch.clamp(self.action, lower, upper, out=self.action)


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
    # A half-open range has no width to take a share of: its finite end stays where it is.
    inset = np.where(np.isfinite(inset), inset, 0.0)
    return torch.from_numpy(lower + inset).float(), torch.from_numpy(upper - inset).float()


def _rows_where(values: torch.Tensor, test: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Rows of `values` [N, D] in which the test holds anywhere, in blocks to spare memory."""
    found = [
        start + test(values[start : start + _CHECK_ROWS]).any(dim=1).nonzero()[:, 0].numpy()
        for start in range(0, len(values), _CHECK_ROWS)
    ]
    return np.concatenate(found)


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
