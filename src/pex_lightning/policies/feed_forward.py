"""A deterministic policy of another library whose network is a plain perceptron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.SiLU)
"""Activations by their number in a state dict; new ones come last."""


class FeedForwardPolicy(nn.Module):
    """Proposes what a perceptron says; it is never trained.

    Its state dict says all about it, so that a checkpoint needs no other file.

    Args:
        sizes: Of the observation, of the hidden layers and of the action.
        action_low: Lower bound of each action dimension.
        action_high: Upper bound of each action dimension.
        activation: Between the layers; an index into `ACTIVATIONS`.
        squashed: Whether the output is `centre + half_width · tanh(net(s))`, else it is clipped.
    """

    action_low: Tensor
    action_high: Tensor
    kind: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        action_low: Sequence[float],
        action_high: Sequence[float],
        activation: int,
        squashed: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        self.net = nn.Sequential(*layers[:-1])
        self.squashed = squashed
        self.register_buffer("action_low", torch.tensor(action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.tensor(action_high, dtype=torch.float32))
        self.register_buffer("kind", torch.tensor([activation, int(squashed)]))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FeedForwardPolicy:
        """A policy with the sizes, bounds and parameters of a state dict.

        Raises:
            KeyError, IndexError, RuntimeError, ValueError: It is not one of such a policy.
        """
        weights = [value for key, value in state.items() if key.endswith(".weight")]
        activation, squashed = state["kind"].tolist()
        policy = cls(
            [weights[0].shape[1], *(weight.shape[0] for weight in weights)],
            state["action_low"].tolist(),
            state["action_high"].tolist(),
            activation,
            bool(squashed),
        )
        policy.load_state_dict(dict(state))
        return policy

    def mode(self, observation: Tensor) -> Tensor:
        """The action, float32: `[B, obs_dim] -> [B, action_dim]`."""
        raw: Tensor = self.net(observation)
        return self.mode_of(raw)

    def mode_of(self, raw: Tensor) -> Tensor:
        """The action, float32, for an output of the network `[..., action_dim]`."""
        raw = raw.float()
        if self.squashed:
            centre = (self.action_high + self.action_low) / 2
            half_width = (self.action_high - self.action_low) / 2
            return centre + half_width * torch.tanh(raw)
        return torch.clamp(raw, self.action_low, self.action_high)

    def extra_repr(self) -> str:
        """What tells its kind apart."""
        return f"squashed={self.squashed}"
