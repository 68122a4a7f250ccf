"""Balanced replay in the online stage: its settings, its share, and how it is resumed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.online import OnlineData
from pex_lightning.errors import UserError


def saver(toy: Any) -> RunCheckpoint:
    return RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))


def priorities(data: OnlineData) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the dataset, and of what was collected, in the order in which it was."""
    state = data._mixing.state(data._places(data._collected - data.online_rows, data._collected))
    assert state is not None
    return state["offline"], state["online"]


class AtStart(Callback):
    """Keeps the priorities with which training begins."""

    def __init__(self, data: OnlineData) -> None:
        self.data = data

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.offline, self.online = priorities(self.data)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mix": "other"}, r"--data\.mix is other.*fixed or balanced"),
        ({"mix": "balanced", "offline_fraction": 0.0}, r"offline_fraction is 0\.0.*above 0"),
        ({"mix": "balanced", "offline_fraction": 1.0}, r"offline_fraction is 1\.0.*below 1"),
        ({"mix": "balanced", "offline_fraction_end": 0.5}, r"offline_fraction_end is given"),
        ({"initial_updates": -1}, r"--data\.initial_updates is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: dict[str, Any], words: str, toy: Any
) -> None:
    with pytest.raises(UserError, match=words):
        toy.online_data(**settings)


@pytest.mark.parametrize("fraction", [0.25, 0.75])
def test_the_first_batches_have_the_offline_fraction(fraction: float, toy: Any) -> None:
    shares: list[float] = []

    class Look(Callback):
        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            # Only the toy environment has whole tenths for steps.
            tenths = batch["observation"][..., 0] * 10
            online = torch.isclose(tenths, tenths.round(), atol=1e-5, rtol=0)
            shares.append(float((~online).float().mean()))

    data = toy.online_data(mix="balanced", offline_fraction=fraction, batch_size=500)
    toy.fit(toy.algorithm("Direct"), 5, data=data, callbacks=[Look()])
    assert shares == [pytest.approx(fraction, abs=0.03)]


@pytest.mark.parametrize("updates_per_step", [0.5, 2.0])
def test_the_environment_is_not_stepped_during_initial_updates(
    updates_per_step: float, toy: Any
) -> None:
    counts: dict[int, int] = {}
    settings = {"initial_updates": 7, "updates_per_step": updates_per_step, "chunk_size": 3}
    data = toy.online_data(**settings)
    note = toy.Boundary(10**6, lambda t, _: counts.update({t.global_step: data.env_steps}))
    toy.fit(toy.algorithm("PEX"), 15, data=data, callbacks=[note])
    assert counts == {
        step: 10 + math.ceil(max(0, step - 7) / updates_per_step) for step in (3, 6, 9, 12, 15)
    }


@pytest.mark.parametrize("sizes", [(1000, 1000), (18, 18), (18, 12), (12, 1000)])
def test_a_resume_goes_on_with_the_priorities(sizes: tuple[int, int], toy: Any) -> None:
    data = toy.online_data(mix="balanced", buffer_size=sizes[0])
    toy.fit(toy.algorithm("Direct"), 10, data=data, callbacks=[saver(toy)])
    offline, online = priorities(data)
    assert (offline != 1.0).sum() > 20
    other = toy.online_data(mix="balanced", buffer_size=sizes[1])
    start = AtStart(other)
    path = toy.folder / "last.ckpt"
    toy.fit(toy.algorithm("Direct"), 20, data=other, resume=path, callbacks=[saver(toy), start])
    assert torch.equal(start.offline, offline)
    # The files of a smaller buffer can hold a few rows that it had overwritten.
    count = min(sizes[1], len(online))
    assert torch.equal(start.online[-count:], online[-count:])
    assert (start.online[:-count] == start.online.max()).all()
    assert len(priorities(other)[1]) == min(sizes[1], len(start.online) + 10)


def test_a_data_module_that_was_trained_with_can_be_resumed(toy: Any) -> None:
    data = toy.online_data(mix="balanced")
    toy.fit(toy.algorithm("Direct"), 10, data=data, callbacks=[saver(toy)])
    offline, online = priorities(data)
    start = AtStart(data)
    path = toy.folder / "last.ckpt"
    toy.fit(toy.algorithm("Direct"), 15, data=data, resume=path, callbacks=[start])
    assert torch.equal(start.offline, offline)
    assert torch.equal(start.online, online)


@pytest.mark.parametrize("mixes", [("fixed", "balanced"), ("balanced", "fixed")])
def test_a_resume_with_another_mix_is_refused(mixes: tuple[str, str], toy: Any) -> None:
    data = toy.online_data(mix=mixes[0])
    toy.fit(toy.algorithm("Direct"), 5, data=data, callbacks=[saver(toy)])
    path = toy.folder / "last.ckpt"
    with pytest.raises(UserError, match=rf"--data\.mix is {mixes[1]}, but .* with {mixes[0]}\."):
        toy.fit(toy.algorithm("Direct"), 10, data=toy.online_data(mix=mixes[1]), resume=path)


def test_a_checkpoint_from_before_there_were_mixes_is_resumed(toy: Any) -> None:
    toy.fit(toy.algorithm("Direct"), 5, callbacks=[saver(toy)])
    path = toy.folder / "last.ckpt"
    raw = torch.load(path, weights_only=True)
    del raw["data_state"]["mix"]
    torch.save(raw, path)
    assert toy.fit(toy.algorithm("Direct"), 10, resume=path).global_step == 10


@pytest.mark.parametrize("damage", [[], [{}], 3, [None, None], [[]]])
def test_a_damaged_state_is_refused(damage: object, toy: Any) -> None:
    data = toy.online_data(mix="balanced")
    toy.fit(toy.algorithm("Direct"), 5, data=data, callbacks=[saver(toy)])
    path = Path(toy.folder) / "last.ckpt"
    raw = torch.load(path, weights_only=True)
    raw["data_state"]["mix"] = damage
    torch.save(raw, path)
    with pytest.raises(UserError, match=r"last\.ckpt.*(priorities cannot be read|--data\.mix)"):
        toy.fit(toy.algorithm("Direct"), 10, data=toy.online_data(mix="balanced"), resume=path)


def test_the_same_seed_gives_the_same_priorities(toy: Any) -> None:
    results = []
    for seed in (3, 3, 4):
        data = toy.online_data(mix="balanced")
        toy.fit(toy.algorithm("Direct"), 15, data=data, seed=seed)
        results.append(priorities(data)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
