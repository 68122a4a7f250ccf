"""A loss that is not finite stops training within a chunk, and no checkpoint is lost by it."""

from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from tensordict import TensorDict

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import TERM
from pex_lightning.updates.loss_watch import LossWatch


def chunk(reward: float) -> TensorDict:
    columns = {"observation": torch.full((2, 4, 3), -5.0)}
    return TensorDict({**columns, "next": {"reward": torch.full((2, 4, 1), reward)}}, [2, 4])


def test_the_terms_are_kept_and_the_diagnostics_given_back() -> None:
    watch = LossWatch()
    watch.check()
    results = {"td": torch.tensor(1.0), TERM + "q": torch.tensor(2.0)}
    assert watch.keep(results, chunk(1.0), 7) == {"td": torch.tensor(1.0)}
    watch.check()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_with_the_largest_numbers(value: float) -> None:
    watch = LossWatch()
    results = {
        "td": torch.tensor(value),
        TERM + "q": torch.tensor(value),
        TERM + "v": torch.tensor(0.0),
    }
    watch.keep(results, chunk(1e20), 1234)
    with pytest.raises(UserError, match=r"loss of q is not finite at update 1,234.*1e\+20.*on 5\."):
        watch.check()


def test_a_diagnostic_that_is_not_finite_stops_nothing() -> None:
    watch = LossWatch()
    watch.keep({"share": torch.tensor(float("nan")), TERM + "q": torch.tensor(0.0)}, chunk(1.0), 1)
    watch.check()


class Poison(Callback):
    """Puts NaN into a parameter after so many updates."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.at:
            with torch.no_grad():
                next(pl_module.critic.v_net.parameters()).fill_(float("nan"))


@pytest.mark.parametrize("name", ["IQL", "PEX"])
def test_training_stops_within_a_chunk(name: str, toy: Any) -> None:
    steps: list[int] = []

    class Count(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            steps.append(trainer.global_step)

    with pytest.raises(UserError, match=r"training has diverged: the loss of .*v"):
        toy.fit(toy.algorithm(name), 100, callbacks=[Poison(10), Count()])
    assert steps == [5, 10, 15]


def test_the_last_chunk_is_looked_at_too(toy: Any) -> None:
    with pytest.raises(UserError, match="training has diverged: the loss of"):
        toy.fit(toy.algorithm("IQL"), 15, callbacks=[Poison(10)])


@pytest.mark.parametrize("name", ["IQL", "PEX"])
def test_a_finite_checkpoint_is_never_replaced_by_another_kind(name: str, toy: Any) -> None:
    evaluation = Evaluation(episodes=1, every=10**6, seed=0, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 5, evaluation)
    with pytest.raises(UserError, match=r"v_net.* is not finite at update 10, so .*--ckpt_path"):
        toy.fit(toy.algorithm(name), 100, callbacks=[Poison(10), checkpoint])
    assert read_checkpoint(checkpoint.last).header.gradient_steps == 5
    again = RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))
    trainer = toy.fit(toy.algorithm(name), 20, resume=checkpoint.last, callbacks=[again])
    assert trainer.global_step == 20
