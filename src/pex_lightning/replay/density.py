"""A network that learns how much more often a row is met online than offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pex_lightning.losses.density import density_ratio_loss
from pex_lightning.nn.mlp import MLP

HIDDEN_DIMS = (256, 256)
LEARNING_RATE = 3e-4


class DensityRatio(nn.Module):
    """w(s, a), the density of online rows over that of offline rows (Off2On, arXiv 2107.00591).

    The output is a ReLU's, whose bias starts at 1, so that w starts near 1 everywhere.

    Args:
        obs_dim: Size of an observation.
        action_dim: Size of an action.
    """

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        super().__init__()
        self.net = MLP(obs_dim + action_dim, HIDDEN_DIMS, 1)
        last = self.net.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.ones_(last.bias)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """w: `[..., obs_dim], [..., action_dim] -> [...]`, 0 or more."""
        out: Tensor = self.net(torch.cat((observation, action), dim=-1))
        return out.squeeze(-1).relu()


class DensityLearner:
    """The network with an Adam of its own, in float32 whatever the method's precision.

    Args:
        obs_dim: Size of an observation.
        action_dim: Size of an action.
        seed: Seed of the initial parameters.
        device: Where it learns.
    """

    def __init__(self, obs_dim: int, action_dim: int, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.ratio = DensityRatio(obs_dim, action_dim)
        self.ratio.to(device)
        self._device = device
        self._optimizer = torch.optim.Adam(self.ratio.parameters(), lr=LEARNING_RATE, fused=True)

    def learn(self, offline: list[Tensor], online: list[Tensor]) -> None:
        """One step for each of `K` pairs of batches.

        Args:
            offline: Observations `[K, B, obs_dim]` and actions `[K, B, action_dim]`.
            online: The same.
        """
        pairs = [self._moved(columns) for columns in (offline, online)]
        rows = [torch.cat(columns, dim=1) for columns in zip(*pairs, strict=True)]
        count = offline[0].shape[1]
        with torch.enable_grad(), torch.autocast(self._device.type, enabled=False):
            for observation, action in zip(*rows, strict=True):
                ratio = self.ratio(observation, action)
                loss = density_ratio_loss(ratio[:count], ratio[count:])
                self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()

    @torch.no_grad()
    def of(self, columns: list[Tensor]) -> Tensor:
        """The present ratio of rows, on the CPU: `[..., obs_dim], [..., action_dim] -> [...]`."""
        with torch.autocast(self._device.type, enabled=False):
            ratio: Tensor = self.ratio(*self._moved(columns))
        return ratio.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Copies of the parameters and of Adam's moments, on the CPU."""
        moments = self._optimizer.state_dict()["state"]
        return {
            "net": _copied(self.ratio.state_dict()),
            "adam": {number: _copied(state) for number, state in moments.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RuntimeError: It is not such a state,
                or has NaN or infinity.
        """
        self.ratio.load_state_dict(state["net"])
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": dict(state["adam"]), "param_groups": groups})
        for parameter in self.ratio.parameters():
            moments = self._optimizer.state[parameter]
            shape = parameter.shape
            expected = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
            if {key: value.shape for key, value in moments.items()} != expected:
                raise ValueError("Adam's moments do not fit the density's network")
            for value in (parameter, *moments.values()):
                if not value.is_floating_point() or not value.isfinite().all():
                    raise ValueError("the density's network is not finite")

    def _moved(self, columns: list[Tensor]) -> list[Tensor]:
        return [column.to(self._device, non_blocking=True) for column in columns]


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
