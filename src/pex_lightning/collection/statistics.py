"""Statistics of collected frames: episode returns, and which member of the policy acted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase

from pex_lightning.policies.acting import Episode

_RECENT_FRAMES = 1_000
_BEGIN = Episode(0.0, False)


class OnlineStatistics:
    """Sums over the frames that were collected since the last `take`."""

    def __init__(self) -> None:
        self.episodes = 0
        self._members: tuple[str, ...] = ()
        self._unfinished: dict[int, Episode] = {}
        self._ended: list[Episode] = []
        self._recent: list[float] = []
        self._clear()

    def begin(self, members: tuple[str, ...]) -> None:
        """Start anew: all environments begin an episode, in which these members act.

        Args:
            members: Names of the policy's members, in the order of `policy_index`.
        """
        if members != self._members:
            self._members = members
            self._recent = [1.0 / len(members)] * len(members)
            self._clear()
        self._unfinished.clear()

    def add(self, batch: TensorDictBase, environment: int = 0) -> None:
        """Count consecutive frames `[F]` of one environment, with raw rewards."""
        probs = batch.get("choice_probs")
        self._entropy -= (probs * probs.clamp_min(1e-12).log()).sum()
        frames = batch.shape[0]
        self._frames += frames
        decay = math.exp(-frames / _RECENT_FRAMES)
        counts = torch.bincount(batch.get("policy_index").flatten(), minlength=len(self._members))
        for member, count in enumerate(counts.tolist()):
            self._choices[member] += count
            share = count / frames
            self._recent[member] = share + decay * (self._recent[member] - share)
        rewards = batch.get(("next", "reward")).flatten().tolist()
        dones = batch.get(("next", "done")).flatten().tolist()
        learner = (probs[:, -1] > 0).tolist()
        so_far, took_part = self._unfinished.get(environment, _BEGIN)
        for reward, done, possible in zip(rewards, dones, learner, strict=True):
            so_far, took_part = so_far + reward, took_part or possible
            if done:
                self._ended.append(Episode(so_far, took_part))
                self._returns.append(so_far)
                self.episodes += 1
                so_far, took_part = _BEGIN
        self._unfinished[environment] = Episode(so_far, took_part)

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order of their ends."""
        ended, self._ended = self._ended, []
        return ended

    def take(self) -> dict[str, float]:
        """Means since the last call, by name; empty if nothing was collected.

        `NAME_policy_share`: share of frames in which member `NAME` acted, if there are
        several. `choice_entropy`: mean entropy of the choice between members, in nats.
        `episodes`: episodes ended since the run began. `episode_return` and
        `episode_return_std`: mean and standard deviation of the raw returns of the episodes that
        ended since the last call.
        """
        if self._frames == 0:
            return {}
        means: dict[str, float] = {}
        if len(self._members) > 1:
            for name, count in zip(self._members, self._choices, strict=True):
                means[f"{name}_policy_share"] = count / self._frames
        means["choice_entropy"] = float(self._entropy) / self._frames
        means["episodes"] = float(self.episodes)
        if self._returns:
            means["episode_return"] = statistics.fmean(self._returns)
            means["episode_return_std"] = statistics.pstdev(self._returns)
        self._clear()
        return means

    def recent_shares(self) -> dict[str, float]:
        """Share of frames in which each member acted, an exponential mean over ~1,000 frames."""
        return dict(zip(self._members, self._recent, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The number of episodes; sums since the last `take` are not saved."""
        return {"episodes": self.episodes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            KeyError, TypeError, ValueError: It is missing or has the wrong type.
        """
        episodes = state["episodes"]
        if type(episodes) is not int or episodes < 0:
            raise ValueError(f"{episodes!r:.40} episodes")
        self.episodes = episodes

    def _clear(self) -> None:
        self._frames = 0
        self._returns: list[float] = []
        self._choices = [0] * len(self._members)
        self._entropy = torch.zeros(())
