"""Training while other processes collect."""

import math
import multiprocessing
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from tensordict import TensorDict

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.errors import UserError


@dataclass
class Seen(Callback):
    """Environment steps at the end of every chunk, by gradient step."""

    counts: dict[int, int] = field(default_factory=dict)

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        self.counts[trainer.global_step] = trainer.datamodule.env_steps


@dataclass
class Run:
    """A run that is over."""

    data: Any
    rows: TensorDict
    parameters: torch.Tensor
    counts: dict[int, int]


def train(
    toy: Any,
    collecting: Any,
    steps: int = 22,
    callbacks: tuple[Callback, ...] = (),
    resume: Any = None,
    **settings: Any,
) -> Run:
    """A few updates of PEX whose acting policy stamps what it does with the update."""
    data = toy.online_data(env=collecting.ENV_ID, **settings)
    module = toy.algorithm("PEX", admission_steps=collecting.STAMP_SCALE)
    acting_policy = module.acting_policy
    module.acting_policy = lambda: collecting.Stamped(acting_policy())
    seen = Seen()
    data_kept: list[Any] = []

    class Keep(Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            data_kept.append(data._online[:].clone())

    toy.fit(module, steps, data=data, callbacks=[seen, Keep(), *callbacks], resume=resume)
    parameters = torch.cat([p.detach().flatten() for p in module.parameters()])
    return Run(data, data_kept[0], parameters, seen.counts)


def stamps(rows: TensorDict) -> list[int]:
    """After how many updates each row was acted."""
    # Admission rises by a thousandth with each update, see `Stamped`.
    return (1000 * rows["choice_probs"][:, 0]).round().long().tolist()


def same(first: Run, second: Run) -> bool:
    keys = list(first.rows.keys(include_nested=True, leaves_only=True))
    return torch.equal(first.parameters, second.parameters) and all(
        torch.equal(first.rows[key], second.rows[key]) for key in keys
    )


@pytest.mark.parametrize(
    ("collectors", "chunk_size", "boundary", "updates_per_step"),
    [
        (0, 4, 6, 1.0),
        (1, 4, 6, 1.0),
        (2, 4, 10**6, 0.7),
        pytest.param(2, 1, 10**6, 1.0, marks=pytest.mark.long),
    ],
)
def test_policy_lag_and_steps_are_as_the_settings_say(
    collectors: int,
    chunk_size: int,
    boundary: int,
    updates_per_step: float,
    toy: Any,
    collecting: Any,
) -> None:
    run = train(
        toy,
        collecting,
        callbacks=(toy.Boundary(boundary),),
        num_collectors=collectors,
        chunk_size=chunk_size,
        updates_per_step=updates_per_step,
    )
    start = run.data.alternation.start_steps
    for step, env_steps in run.counts.items():
        assert env_steps == start + math.ceil(step / updates_per_step), step
    acted = stamps(run.rows)
    assert len(acted) == run.data.env_steps
    assert acted[:start] == [0] * start
    # In turns, frame j after the start follows on (j - 1) * updates_per_step updates.
    in_turns = [math.floor(j * updates_per_step) for j in range(len(acted) - start)]
    lags = [turn - stamp for turn, stamp in zip(in_turns, acted[start:], strict=True)]
    bound = 2 * chunk_size - 1 if collectors else chunk_size - 1
    assert min(lags) >= 0
    assert max(lags) == bound
    assert not multiprocessing.active_children()


def test_the_same_seed_and_number_of_collectors_give_the_same_run(
    toy: Any, collecting: Any
) -> None:
    settings = {"num_collectors": 2, "start_steps": 11, "chunk_size": 4}
    first, second = (train(toy, collecting, **settings) for _ in range(2))
    assert same(first, second)


def test_a_run_with_collectors_is_resumed(toy: Any, collecting: Any) -> None:
    def saver() -> RunCheckpoint:
        return RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))

    run = train(toy, collecting, 10, (saver(),), num_collectors=1)
    assert run.data.env_steps == 20
    last = toy.folder / "last.ckpt"
    resumed, again = (train(toy, collecting, 20, resume=last, num_collectors=1) for _ in range(2))
    assert resumed.data.env_steps == 30
    assert torch.equal(resumed.rows["observation"][:20], run.rows["observation"])
    assert stamps(resumed.rows[20:]) == [10] * 10
    assert same(resumed, again)


def test_fast_dev_run_ends_its_collectors(toy: Any, collecting: Any) -> None:
    data = toy.online_data(env=collecting.ENV_ID, num_collectors=1)
    toy.fit(toy.algorithm("PEX"), 10, data=data, fast_dev_run=True)
    assert data.env_steps == 2
    assert not multiprocessing.active_children()


def test_an_interrupt_while_collecting_ends_at_once(toy: Any, collecting: Any) -> None:
    class Stop(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            data = trainer.datamodule
            add = data.statistics.add

            def add_and_stop(batch: Any, environment: int) -> None:
                add(batch, environment)
                trainer.should_stop = True

            data.statistics.add = add_and_stop

    data = toy.online_data(env=collecting.ENV_ID, num_collectors=1, start_steps=10**6)
    trainer = toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[Stop()])
    assert trainer.global_step == 0
    assert data.env_steps == 100
    assert not multiprocessing.active_children()


def test_an_error_in_an_environment_ends_the_run_and_the_collectors(
    toy: Any, collecting: Any
) -> None:
    kwargs = {"raises_at": 4}
    data = toy.online_data(env=collecting.ENV_ID, num_collectors=1, env_kwargs=kwargs)
    with pytest.raises(UserError, match=r"PexCollecting-v0, failed: ValueError: the toy broke"):
        toy.fit(toy.algorithm("PEX"), 10, data=data)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("collectors", [0, 1])
def test_a_resumed_run_may_need_fewer_steps_than_it_has(
    toy: Any, collecting: Any, collectors: int
) -> None:
    saver = RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))
    before = train(toy, collecting, 20, (saver,), num_collectors=collectors)
    assert before.data.env_steps == 30
    settings = {"num_collectors": collectors, "updates_per_step": 2.0}
    again = train(toy, collecting, 40, resume=toy.folder / "last.ckpt", **settings)
    # With two updates a step, 40 updates need the 30 steps that are there.
    assert set(again.counts.values()) == {30}
