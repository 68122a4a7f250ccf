"""The policy set Π: frozen members first, one learning member last."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from pex_lightning.nn.distributions import AnyPolicy, policy_from_state
from pex_lightning.nn.policy import Policy
from pex_lightning.policies.feed_forward import FeedForwardPolicy
from pex_lightning.policies.stacked import StackedNets

OFFLINE_NAME = "offline"
LEARNER_NAME = "online"

Stackable = AnyPolicy | FeedForwardPolicy
"""Policies of one network `net` and of what `mode_of` makes of its output; no subclasses."""


class FrozenPolicy(Protocol):
    """What a frozen member of a policy set is; a module."""

    def mode(self, observation: Tensor) -> Tensor:
        """What it proposes, inside the action space: `[B, obs_dim] -> [B, action_dim]`."""


class PolicySet(nn.Module):
    """Π = [π_β, …, π_θ] (PEX, arXiv 2302.00935, section 4).

    A frozen member proposes its mode, the learning member a sample; both are clipped to the action
    space, outside of which the critic was never trained. When a state dict is loaded whose frozen
    members have other sizes, the set takes on those.

    Frozen members of equal layers are evaluated together, by one batched product a layer, from
    copies of their parameters. So parameters of frozen members are changed by `set_frozen`, `fill`
    or `load_state_dict` of the set; after anything else, call `restack`.

    The last frozen members can be places for members to come: they are as large as the learner,
    and nothing chooses them until they are filled.

    Args:
        frozen: Policies that never change; their parameters stop requiring gradients.
        learner: The policy that learns.
        names: Of all members, the learner's last; by default `offline` and `online`.
        places: How many of the last frozen members are not filled yet.

    Attributes:
        filled: Which members are there, `[M]` bool; a buffer, or None if there are no places.
    """

    filled: Tensor | None

    def __init__(
        self,
        frozen: Sequence[nn.Module],
        learner: Policy,
        names: Sequence[str] = (OFFLINE_NAME, LEARNER_NAME),
        places: int = 0,
    ) -> None:
        super().__init__()
        self.frozen = nn.ModuleList(frozen).requires_grad_(False)
        self._first_learns = False
        self.learner = learner
        self.names = tuple(names)
        assert len(self.names) == len(self), f"{len(self)} members are called {self.names}"
        self._first_place = len(frozen) - places
        filled = torch.ones(len(self), dtype=torch.bool)
        filled[self._first_place : -1] = False
        self.register_buffer("filled", filled if places else None)
        self._groups: list[list[int]] = []
        self.stacks = nn.ModuleList()
        self.restack()
        self.register_load_state_dict_pre_hook(_take_on_members)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_restack)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Number of members, with those to come."""
        return len(self.frozen) + 1

    def mode_of(self, number: int) -> Callable[[Tensor], Tensor]:
        """The mode of one member, the learner's the last: `[B, obs_dim] -> [B, action_dim]`."""
        if number == len(self.frozen):
            return self.learner.mode
        return cast(FrozenPolicy, self.frozen[number]).mode

    def is_filled(self, number: int) -> bool:
        """Whether there is a member in this place; waits for a GPU."""
        return self.filled is None or bool(self.filled[number])

    def modes(self, observation: Tensor) -> Tensor:
        """Every member's mode: `[B, obs_dim] -> [M, B, action_dim]`."""
        return torch.stack([*self._frozen_modes(observation), self.learner.mode(observation)])

    def candidates(self, observation: Tensor) -> Tensor:
        """What each member proposes when acting: `[B, obs_dim] -> [M, B, action_dim]`."""
        return torch.stack([*self._frozen_modes(observation), self.learner.sample(observation)])

    def log_probs(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """Every member's log-density of its own candidate `[M, B, action_dim]`: `[M, B]`.

        All members have to be policies of ours.
        """
        members = cast(list[Policy], [*self.frozen, self.learner])
        pairs = zip(members, candidates, strict=True)
        return torch.stack([member.log_prob(observation, action) for member, action in pairs])

    def set_frozen(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Give a frozen member the parameters, and where they differ the sizes, of a policy.

        Args:
            number: Which of the frozen members.
            state: State dict of a policy of ours, or of a `FeedForwardPolicy`, for the same
                environment.
        """
        self._set_frozen(number, state)
        self.restack()

    def fill(self, place: int, state: Mapping[str, Tensor]) -> None:
        """Put a policy of the learner's sizes into a place, in the memory that is there.

        Args:
            place: Which of the places, from 0.
            state: Its state dict.
        """
        assert self.filled is not None
        number = self._first_place + place
        self.frozen[number].load_state_dict(dict(state))
        self.filled[number] = True
        self.restack()

    def train_offline(self, learn: bool) -> None:
        """Let the first member, π_β, learn after all, or not."""
        self._first_learns = learn
        self.frozen[0].requires_grad_(learn)
        self.restack()

    def restack(self) -> None:
        """Copy the members' parameters to where equal ones are evaluated together."""
        groups: dict[str, list[int]] = {}
        for number, member in enumerate(self.frozen):
            learns = self._first_learns and number == 0
            if type(member) in get_args(Stackable) and not learns:
                groups.setdefault(repr(member), []).append(number)
        found = [numbers for numbers in groups.values() if len(numbers) > 1]
        if found != self._groups:
            self._groups = found
            self.stacks = nn.ModuleList(StackedNets(self._nets(numbers)) for numbers in found)
            return
        for numbers, stack in zip(found, self.stacks, strict=True):
            cast(StackedNets, stack).copy(self._nets(numbers))

    def _nets(self, numbers: Sequence[int]) -> list[nn.Sequential]:
        nets = [cast(nn.Module, self.frozen[number].net) for number in numbers]
        return cast(list[nn.Sequential], [getattr(net, "layers", net) for net in nets])

    def _frozen_modes(self, observation: Tensor) -> list[Tensor]:
        if not self._groups:
            return [cast(FrozenPolicy, member).mode(observation) for member in self.frozen]
        modes: dict[int, Tensor] = {}
        for numbers, stack in zip(self._groups, self.stacks, strict=True):
            first = cast(Stackable, self.frozen[numbers[0]])
            modes.update(zip(numbers, first.mode_of(stack(observation)).unbind(), strict=True))
        for number, member in enumerate(self.frozen):
            if number not in modes:
                modes[number] = cast(FrozenPolicy, member).mode(observation)
        return [modes[number] for number in range(len(self.frozen))]

    def _set_frozen(self, number: int, state: Mapping[str, Tensor]) -> None:
        same_sizes = _shapes(self.frozen[number].state_dict()) == _shapes(state)
        if same_sizes and "kind" not in state:
            self.frozen[number].load_state_dict(dict(state))
            return
        device = self.learner.action_low.device
        policy = (
            FeedForwardPolicy.from_state(state) if "kind" in state else policy_from_state(state)
        )
        policy.requires_grad_(self._first_learns and number == 0)
        self.frozen[number] = policy.to(device)
        # Built anew, as others may have the sizes that it had.
        self._groups, self.stacks = [], nn.ModuleList()


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
    if not members.keys() <= set(range(len(policies.frozen))):
        # Left to torch, which names what is missing and what is unexpected.
        return
    for number, state in members.items():
        if isinstance(policies.frozen[number], (Policy, FeedForwardPolicy)):
            policies._set_frozen(number, state)


def _restack(policies: nn.Module, *_: Any) -> None:
    assert isinstance(policies, PolicySet)
    policies.restack()


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}
