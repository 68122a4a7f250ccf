"""The policy set Π: frozen members first, one learning member last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pex_lightning.nn.distributions import policy_from_state
from pex_lightning.nn.policy import Policy

FROZEN_NAMES = ("offline",)
LEARNER_NAME = "online"


class PolicySet(nn.Module):
    """Π = [π_β, …, π_θ] (PEX, arXiv 2302.00935, section 4).

    A frozen member proposes its mode, the learning member a sample; both are clipped to the action
    space, outside of which the critic was never trained. When a state dict is loaded whose frozen
    members have other sizes, the set takes on those.

    Args:
        frozen: Policies that never change; their parameters stop requiring gradients.
        learner: The policy that learns.
        names: Of all members, the learner's last; by default `offline` and `online`.
    """

    def __init__(
        self,
        frozen: Sequence[Policy],
        learner: Policy,
        names: Sequence[str] = (*FROZEN_NAMES, LEARNER_NAME),
    ) -> None:
        super().__init__()
        self.frozen = nn.ModuleList(frozen).requires_grad_(False)
        self._frozen_learn = False
        self.learner = learner
        self.names = tuple(names)
        assert len(self.names) == len(self), f"{len(self)} members are called {self.names}"
        self.register_load_state_dict_pre_hook(_take_on_members)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Number of members."""
        return len(self.frozen) + 1

    def member(self, number: int) -> Policy:
        """One of the members; the learner is the last."""
        return self._members()[number]

    def modes(self, observation: Tensor) -> Tensor:
        """Every member's mode: `[B, obs_dim] -> [M, B, action_dim]`."""
        return torch.stack([member.mode(observation) for member in self._members()])

    def candidates(self, observation: Tensor) -> Tensor:
        """What each member proposes when acting: `[B, obs_dim] -> [M, B, action_dim]`."""
        proposals = [member.mode(observation) for member in self._frozen()]
        proposals.append(self.learner.sample(observation))
        return torch.stack(proposals)

    def log_probs(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """Every member's log-density of its own candidate `[M, B, action_dim]`: `[M, B]`."""
        pairs = zip(self._members(), candidates, strict=True)
        return torch.stack([member.log_prob(observation, action) for member, action in pairs])

    def set_frozen(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Give a frozen member the parameters, and where they differ the sizes, of a policy.

        Args:
            number: Which of the frozen members.
            state: State dict of a policy of ours for the same environment.
        """
        if _shapes(self.frozen[number].state_dict()) == _shapes(state):
            self.frozen[number].load_state_dict(dict(state))
            return
        device = self.learner.action_low.device
        policy = policy_from_state(state).requires_grad_(self._frozen_learn)
        self.frozen[number] = policy.to(device)

    def train_frozen(self, learn: bool) -> None:
        """Let the frozen members learn after all, or not."""
        self._frozen_learn = learn
        self.frozen.requires_grad_(learn)

    def _members(self) -> list[Policy]:
        return [*self._frozen(), self.learner]

    def _frozen(self) -> list[Policy]:
        return cast(list[Policy], list(self.frozen))


def _take_on_members(
    policies: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str,
    *_: Any,
) -> None:
    """Before a state dict is loaded: let the frozen members have the sizes that it has."""
    assert isinstance(policies, PolicySet)
    members: dict[int, dict[str, Tensor]] = {}
    for key, value in state_dict.items():
        match = re.match(rf"{re.escape(prefix)}frozen\.(\d+)\.(.+)", key)
        if match:
            members.setdefault(int(match[1]), {})[match[2]] = value
    if sorted(members) != list(range(len(policies.frozen))):
        # Left to torch, which names what is missing and what is unexpected.
        return
    for number, state in members.items():
        policies.set_frozen(number, state)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}
