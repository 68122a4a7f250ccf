"""What happens in the training environment: episode returns, and who acts."""

from __future__ import annotations

import math
from typing import Any

import torch
from tensordict import TensorDictBase

_RECENT_FRAMES = 1_000


class OnlineStatistics:
    """Sums over collected frames since they were last taken."""

    def __init__(self) -> None:
        self.episodes = 0
        self._under_way: dict[int, float] = {}
        self._recent_share = 0.5
        self._clear()

    def add(self, batch: TensorDictBase, environment: int = 0) -> None:
        """Count consecutive frames ``[F]`` of one environment, rewards still raw."""
        probs = batch.get("choice_probs")
        entropy = -(probs * probs.clamp_min(1e-12).log()).sum()
        self._frames += batch.shape[0]
        chosen = (batch.get("policy_index") == 0).sum()
        self._offline_choices += chosen
        self._entropy += entropy
        share = float(chosen) / batch.shape[0]
        decay = math.exp(-batch.shape[0] / _RECENT_FRAMES)
        self._recent_share = share + decay * (self._recent_share - share)
        rewards = batch.get(("next", "reward")).flatten().tolist()
        dones = batch.get(("next", "done")).flatten().tolist()
        so_far = self._under_way.get(environment, 0.0)
        for reward, done in zip(rewards, dones, strict=True):
            so_far += reward
            if done:
                self._returns.append(so_far)
                self.episodes += 1
                so_far = 0.0
        self._under_way[environment] = so_far

    def new_environments(self) -> None:
        """Forget the episodes under way: fresh environments start others."""
        self._under_way.clear()

    def take(self) -> dict[str, float]:
        """Means since the last call, by name; empty if nothing was collected.

        ``offline_policy_share``: share of frames in which member 0 (π_β) acted.
        ``choice_entropy``: mean entropy of the choice, in nats.
        ``episode_return``: mean raw return of the episodes that ended.
        """
        if self._frames == 0:
            return {}
        means = {
            "offline_policy_share": float(self._offline_choices) / self._frames,
            "choice_entropy": float(self._entropy) / self._frames,
            "episodes": float(self.episodes),
        }
        if self._returns:
            means["episode_return"] = sum(self._returns) / len(self._returns)
        self._clear()
        return means

    def recent_offline_share(self) -> float:
        """Share of frames in which member 0 acted, as an exponential mean over ~1,000 frames."""
        return self._recent_share

    def state_dict(self) -> dict[str, Any]:
        """The number of episodes; sums since the last report are not kept."""
        return {"episodes": self.episodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.episodes = int(state["episodes"])

    def _clear(self) -> None:
        self._frames = 0
        self._returns: list[float] = []
        self._offline_choices = torch.zeros((), dtype=torch.int64)
        self._entropy = torch.zeros(())
