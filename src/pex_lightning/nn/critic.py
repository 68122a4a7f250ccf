"""The critic: the unit that an offline checkpoint hands over to an online run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pex_lightning.nn.mlp import MLP, EnsembleMLP


class Critic(nn.Module):
    """An ensemble of Q-functions, its slowly moving target, and a state value V.

    The same class serves every algorithm, offline and online, so that a state dict moves between
    them unchanged (IQL, arXiv 2110.06169; PEX, arXiv 2302.00935, carries it over whole).

    Args:
        obs_dim: Size of an observation.
        action_dim: Size of an action.
        hidden_dims: Sizes of the hidden layers of every network.
        num_q: Number of Q-functions.
        with_v: Whether there is a V; methods without one have no use for its parameters.
        layer_norm: Whether hidden layers are normalised (as in RLPD, arXiv 2302.02948).
        min_q_of: How many Q-functions `min_target_q` draws and takes the least of; all by default.

    Raises:
        ValueError: `num_q` is below 1.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        num_q: int = 2,
        *,
        with_v: bool = True,
        layer_norm: bool = False,
        min_q_of: int | None = None,
    ) -> None:
        super().__init__()
        if num_q < 1:
            raise ValueError(f"num_q must be at least 1, got {num_q}")
        in_dim = obs_dim + action_dim
        self.min_q_of = num_q if min_q_of is None else min_q_of
        self.q_net = EnsembleMLP(num_q, in_dim, hidden_dims, 1, layer_norm=layer_norm)
        self.target_q_net = EnsembleMLP(num_q, in_dim, hidden_dims, 1, layer_norm=layer_norm)
        self.target_q_net.requires_grad_(False)
        if with_v:
            self.v_net = MLP(obs_dim, hidden_dims, 1, layer_norm=layer_norm)
        self.reset_target()

    def q(self, observation: Tensor, action: Tensor, *, constant: bool = False) -> Tensor:
        """Q of every member, float32: `[B, obs_dim], [B, action_dim] -> [num_q, B]`.

        With `constant` the critic's parameters get no gradient, while the action may.
        """
        out: Tensor = self.q_net(torch.cat((observation, action), dim=-1), constant=constant)
        return out.squeeze(-1).float()

    def target_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Target Q of every member, float32: `[B, obs_dim], [B, action_dim] -> [num_q, B]`."""
        out: Tensor = self.target_q_net(torch.cat((observation, action), dim=-1))
        return out.squeeze(-1).float()

    def min_target_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """The least target Q, float32: `[B, obs_dim], [B, action_dim] -> [B]`.

        Of `min_q_of` members, drawn anew at every call and the same for all rows (REDQ, arXiv
        2101.05982); of all members where `min_q_of` is their number.
        """
        members = None
        if self.min_q_of < self.target_q_net.size:
            members = drawn(self.min_q_of, self.target_q_net.size, observation.device)
        inputs = torch.cat((observation, action), dim=-1)
        out: Tensor = self.target_q_net(inputs, members=members)
        return out.squeeze(-1).float().amin(0)

    def v(self, observation: Tensor) -> Tensor:
        """State value, float32: `[B, obs_dim] -> [B]`."""
        out: Tensor = self.v_net(observation)
        return out.squeeze(-1).float()

    def reset_target(self) -> None:
        """Set the target to the current Q."""
        self.target_q_net.load_state_dict(self.q_net.state_dict())

    @torch.no_grad()
    def update_target(self, tau: float) -> None:
        """Polyak step: target ← target + tau · (Q − target)."""
        torch._foreach_lerp_(
            list(self.target_q_net.parameters()), list(self.q_net.parameters()), tau
        )


def drawn(count: int, size: int, device: torch.device) -> Tensor:
    """`count` different numbers below `size` in random order, `[count]` int64."""
    # Not `randperm`, which waits for a GPU.
    return torch.rand(size, device=device).topk(count).indices


class FrozenQ(nn.Module):
    """Q-functions that do not learn any more, such as those of an offline stage.

    Args:
        obs_dim: Size of an observation.
        action_dim: Size of an action.
        hidden_dims: Sizes of the hidden layers.
        num_q: Number of Q-functions.
        layer_norm: Whether hidden layers are normalised.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        num_q: int,
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.net = EnsembleMLP(num_q, obs_dim + action_dim, hidden_dims, 1, layer_norm=layer_norm)
        self.net.requires_grad_(False)

    def q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q of every member, float32: `[B, obs_dim], [B, action_dim] -> [num_q, B]`."""
        out: Tensor = self.net(torch.cat((observation, action), dim=-1))
        return out.squeeze(-1).float()
