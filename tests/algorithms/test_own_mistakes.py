"""Mistakes in a method of a user's are told before anything is trained on them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import nn

from pex_lightning.algorithms import IQL, OnlineIQL
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.policies.acting import ActingPolicy, SinglePolicy


class Pinned(IQL):
    """Sets an argument of its base that is none of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(cosine_decay=False, **kwargs)


class Hidden(IQL):
    """Learns a network that the module does not have."""

    def build(self, data: DataDescription) -> None:
        super().build(data)
        self.nets = [nn.Linear(1, 1)]

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {**super().groups(), "actor": self.nets[0].parameters()}


class HiddenActor(IQL):
    """Acts with a network that the module does not have."""

    def acting_policy(self) -> ActingPolicy:
        assert self.description is not None
        return SinglePolicy(self.networks.policy(self.description.env))


class Misspelt(IQL):
    """Slows a group down that does not exist."""

    def learning_rate_factors(self, step: int) -> Mapping[str, float]:
        return {"policy": 0.0}


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (Pinned, r"Pinned cannot be made again .*cosine_decay.*super\(\)"),
        (Hidden, "Hidden: actor has parameters that the module does not have"),
        (HiddenActor, r"HiddenActor: acting_policy\(\) has parameters that the module"),
        (Misspelt, r"learning_rate_factors\(\) names policy, but .* actor, q, v"),
    ],
)
def test_it_is_refused(method: type[IQL], says: str, toy: Any) -> None:
    with pytest.raises(UserError, match=says):
        toy.fit(method(hidden_dims=[8, 8]), 5)


def test_what_takes_nothing_over_is_given_nothing(toy: Any) -> None:
    with pytest.raises(UserError, match="OnlineIQL takes nothing over"):
        OnlineIQL().hand_over(read_checkpoint(toy.offline_path))


def test_what_is_handed_over_in_another_number_is_told(toy: Any) -> None:
    module = toy.algorithm("PEX")
    expected = r"PEX starts from one offline checkpoint.* 2: .*offline\.ckpt, .*offline\.ckpt"
    with pytest.raises(UserError, match=expected):
        module.hand_over(*[read_checkpoint(toy.offline_path)] * 2)


class Follows(OnlineIQL):
    """Has a buffer that depends on the step and is not saved."""

    def build(self, data: DataDescription) -> None:
        super().build(data)
        self.register_buffer("share", torch.zeros(()), persistent=False)

    def follow(self, step: int) -> None:
        self.share.fill_(step)  # type: ignore[operator]


def test_what_follows_the_step_does_so_from_the_first_chunk_after_a_resume(toy: Any) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.shares: list[float] = []

        def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            self.shares.append(float(pl_module.share))

    from pex_lightning.callbacks.checkpoint import RunCheckpoint
    from pex_lightning.callbacks.evaluation import Evaluation

    checkpoint = RunCheckpoint(toy.folder, 10, Evaluation(1, 10**6, seed=0, num_envs=1))
    toy.fit(Follows(hidden_dims=[8, 8]), 10, callbacks=[checkpoint])
    seen = Seen()
    toy.fit(Follows(hidden_dims=[8, 8]), 20, resume=checkpoint.last, callbacks=[seen])
    assert seen.shares == [10.0, 15.0]
