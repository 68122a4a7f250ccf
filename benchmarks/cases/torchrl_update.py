"""TorchRL's `IQLLoss` as its documentation uses it, with one fused Adam and `SoftUpdate`.

Its networks are TorchRL's own of the common size; the policy is this package's (a bounded mean
and a state-independent standard deviation), so that it computes the same.
"""

from __future__ import annotations

from itertools import cycle

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential
from tensordict.nn import TensorDictModule as Module
from torch import Tensor, nn
from torchrl.modules import MLP, IndependentNormal, ValueOperator
from torchrl.objectives import IQLLoss, SoftUpdate, ValueEstimators

from benchmarks.cases.shared.setting import (
    ACTION_DIM,
    BATCH,
    BETA,
    CHUNK,
    EXPECTILE,
    GAMMA,
    HIDDEN,
    LEARNING_RATE,
    NUM_Q,
    OBS_DIM,
    TAU,
    Work,
    arrays,
    autocast,
    flat,
)


class _Gaussian(nn.Module):
    """Mean in [−1, 1] and a standard deviation a dimension: `[B, obs_dim]` to both."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _mlp(OBS_DIM, ACTION_DIM)
        self.log_std = nn.Parameter(torch.zeros(ACTION_DIM))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tanh(self.net(observation).float())
        return mean, self.log_std.clamp(-5.0, 2.0).exp().expand_as(mean)


def _mlp(inputs: int, outputs: int) -> nn.Module:
    net: nn.Module = MLP(inputs, outputs, num_cells=list(HIDDEN), activation_class=nn.ReLU)
    return net


def _loss() -> IQLLoss:
    actor = ProbabilisticTensorDictSequential(
        Module(_Gaussian(), ["observation"], ["loc", "scale"]),
        ProbabilisticTensorDictModule(
            ["loc", "scale"], ["action"], distribution_class=IndependentNormal
        ),
    )
    q = ValueOperator(_mlp(OBS_DIM + ACTION_DIM, 1), ["observation", "action"])
    v = ValueOperator(_mlp(OBS_DIM, 1), ["observation"])
    loss = IQLLoss(
        actor,
        q,
        v,
        num_qvalue_nets=NUM_Q,
        loss_function="l2",
        temperature=BETA,
        expectile=EXPECTILE,
    )
    loss.make_value_estimator(ValueEstimators.TD0, gamma=GAMMA)
    return loss


def _batches() -> tuple[TensorDictBase, ...]:
    data = arrays()
    chunk = TensorDict(
        {
            "observation": torch.from_numpy(data.observation),
            "action": torch.from_numpy(data.action),
            "next": {
                "observation": torch.from_numpy(data.next_observation),
                "reward": torch.from_numpy(data.reward).unsqueeze(-1),
                "terminated": torch.from_numpy(data.terminated).unsqueeze(-1),
                "done": torch.from_numpy(data.terminated).unsqueeze(-1),
            },
        },
        [CHUNK, BATCH],
    )
    unbound: tuple[TensorDictBase, ...] = chunk.unbind(0)
    return unbound


def build(precision: str) -> Work:
    """The loss, ready to update."""
    torch.manual_seed(0)
    loss = _loss()
    target = SoftUpdate(loss, tau=TAU)
    optimizer = torch.optim.Adam(loss.parameters(), lr=LEARNING_RATE, fused=True)
    supply = cycle(_batches())

    def step() -> None:
        with autocast(precision):
            # A shallow copy: the loss writes into what it is given.
            terms = loss(next(supply).copy())
            optimizer.zero_grad()
            (terms["loss_actor"] + terms["loss_qvalue"] + terms["loss_value"]).backward()
            optimizer.step()
            target.step()

    return Work(step, lambda: flat(loss.parameters()))
