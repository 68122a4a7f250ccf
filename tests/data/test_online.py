import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from tensordict import TensorDict

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.data.online import MOST_FRAMES_AT_ONCE
from pex_lightning.errors import UserError


def saver(toy: Any, every: int = 5) -> RunCheckpoint:
    return RunCheckpoint(toy.folder, every, Evaluation(1, 10**6, seed=0, num_envs=1))


def step_counts(toy: Any, steps: int, **settings: Any) -> dict[int, int]:
    """Environment steps at the end of every chunk, by gradient step."""
    counts: dict[int, int] = {}
    every = settings.pop("boundary", 10**6)
    data = toy.online_data(**settings)
    note = toy.Boundary(every, lambda t, _: counts.update({t.global_step: data.env_steps}))
    toy.fit(toy.algorithm("PEX"), steps, data=data, callbacks=[note])
    return counts


@pytest.mark.parametrize("updates_per_step", [0.5, 1.0, 2.0])
def test_env_steps_before_an_update(updates_per_step: float, toy: Any) -> None:
    for chunk_size, start in ((1, 8), (4, 16)):
        counts = step_counts(
            toy,
            12,
            updates_per_step=updates_per_step,
            chunk_size=chunk_size,
            start_steps=start,
        )
        assert list(counts) == list(range(chunk_size, 13, chunk_size))
        for step, env_steps in counts.items():
            assert env_steps == start + -(-step // updates_per_step), (chunk_size, step)


@pytest.mark.parametrize(
    ("updates_per_step", "chunk_size", "boundary", "start_steps"),
    [(0.5, 4, 10**6, 10), (3.0, 5, 7, 3), (0.3, 4, 6, 1), (0.05, 5, 8, 2), (20.0, 3, 10**6, 1)],
)
def test_env_steps_are_exact_whatever_chunks_and_boundaries_are(
    updates_per_step: float, chunk_size: int, boundary: int, start_steps: int, toy: Any
) -> None:
    counts = step_counts(
        toy,
        16,
        updates_per_step=updates_per_step,
        chunk_size=chunk_size,
        boundary=boundary,
        start_steps=start_steps,
    )
    assert 16 in counts
    for step, env_steps in counts.items():
        assert env_steps == start_steps + math.ceil(step / updates_per_step), step


def test_rows_are_kept_with_the_reward_transform_and_time_outs_do_not_terminate(toy: Any) -> None:
    data = toy.online_data(chunk_size=1)
    toy.fit(toy.algorithm("PEX"), 13, data=data)
    rows = data._online[:]
    count = data.online_rows
    assert count == data.env_steps == 23
    position = torch.arange(count) % toy.time_limit
    assert rows["next", "reward"].flatten().tolist() == (position + 1 - 1.0).tolist()
    assert not rows["next", "terminated"].any()
    truncated = rows["next", "truncated"].flatten()
    assert truncated.tolist() == (position == toy.time_limit - 1).tolist()
    low, high = torch.tensor(toy.low), torch.tensor(toy.high)
    assert ((rows["action"] >= low) & (rows["action"] <= high)).all()


def test_what_happens_in_the_environment_is_reported_raw(toy: Any) -> None:
    data = toy.online_data()
    toy.fit(toy.algorithm("PEX"), 5, data=data)
    statistics = data.statistics.take()
    assert statistics["episode_return"] == 1 + 2 + 3 + 4 + 5
    assert statistics["episodes"] == 3


def test_terminations_are_kept(toy: Any) -> None:
    data = toy.online_data(env_kwargs={"terminates_after": 3})
    module = toy.algorithm("PEX")
    toy.fit(module, 5, data=data)
    rows = data._online[:]
    expected = [(i + 1) % 3 == 0 for i in range(data.online_rows)]
    assert rows["next", "terminated"].flatten().tolist() == expected


@pytest.mark.parametrize(("fraction", "offline_rows"), [(0.0, 0), (0.5, 8), (1.0, 16)])
def test_batches_are_mixed(fraction: float, offline_rows: int, toy: Any) -> None:
    shares: list[list[int]] = []

    class Look(Callback):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            # Only the toy environment has whole tenths for steps.
            tenths = batch["observation"][..., 0] * 10
            online = torch.isclose(tenths, tenths.round(), atol=1e-5, rtol=0)
            shares.append((~online).sum(-1).tolist())

    data = toy.online_data(offline_fraction=fraction)
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[Look()])
    assert shares == [[offline_rows] * 5] * 2


def content(data: Any) -> TensorDict:
    """The kept rows in the order in which they were written: a full ring's oldest come first."""
    count = data.online_rows
    oldest = data._online.writer._cursor if count == data.buffer_size else 0
    return data._online[(oldest + torch.arange(count)) % data.buffer_size]


class Journal:
    """Everything that was collected, in order, over several runs."""

    def __init__(self) -> None:
        self.frames: list[TensorDict] = []

    def __len__(self) -> int:
        return sum(frames.shape[0] for frames in self.frames)

    def follow(self, data: Any) -> Any:
        """Write down what `data` is going to collect; returns it."""
        add = data.statistics.add

        def note(batch: TensorDict, environment: int) -> None:
            self.frames.append(batch.clone())
            add(batch, environment)

        data.statistics.add = note
        return data

    def newest(self, count: int) -> TensorDict:
        """As they are to be kept: with the toy's reward transform."""
        rows = torch.cat(self.frames)[-count:]
        reward = rows["next", "reward"] - 1.0
        rows = rows.select("observation", "action", "next", "policy_index", "choice_probs")
        return rows.set(("next", "reward"), reward)


def same(first: TensorDict, second: TensorDict) -> bool:
    keys = list(first.keys(include_nested=True, leaves_only=True))
    assert ("next", "reward") in keys
    assert "choice_probs" in keys
    assert set(keys) == set(second.keys(include_nested=True, leaves_only=True))
    return first.batch_size == second.batch_size and all(
        torch.equal(first[key], second[key]) for key in keys
    )


class AtStart(Callback):
    """Keeps what the replay buffer holds when training starts."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.env_steps, self.rows = self.data.env_steps, content(self.data).clone()
        self.length, self.episodes = self.data.online_rows, self.data.statistics.episodes


@pytest.mark.parametrize("buffer_size", [12, 25, 30, 1000])
def test_the_replay_buffer_is_restored_exactly(buffer_size: int, toy: Any) -> None:
    data = toy.online_data(buffer_size=buffer_size)
    toy.fit(toy.algorithm("PEX"), 30, data=data, callbacks=[saver(toy, 10)])
    kept = content(data).clone()
    assert data.env_steps == 40
    other = toy.online_data(buffer_size=buffer_size)
    start = AtStart(other)
    toy.fit(
        toy.algorithm("PEX"),
        40,
        data=other,
        resume=toy.folder / "last.ckpt",
        callbacks=[saver(toy, 10), start],
    )
    assert same(start.rows, kept)
    assert start.length == min(buffer_size, 40)
    assert start.episodes == 8
    assert other.env_steps == 50
    assert other.online_rows == min(buffer_size, 50)
    # New rows take the place of the oldest.
    survivors = min(buffer_size, 50) - 10
    assert same(content(other)[:survivors], kept[-survivors:])


@pytest.mark.parametrize(
    "sizes",
    [
        (1000, 1000, 1000, 1000),
        # The ring comes round before, after, and on both sides of a resume; 20, 30, 40, 50 rows.
        (18, 18, 18, 18),
        (24, 24, 24, 24),
        (33, 33, 33, 33),
        (20, 20, 20, 20),
        (4, 4, 4, 4),
        (1, 1, 1, 1),
        # Another size at a resume.
        (12, 100, 23, 7),
        (7, 11, 16, 31),
        (31, 16, 11, 7),
        (18, 7, 18, 7),
    ],
)
@pytest.mark.parametrize("every", [5, 10])
def test_run_after_run_resumes_with_the_newest_rows(
    sizes: tuple[int, ...], every: int, toy: Any
) -> None:
    journal, path = Journal(), toy.folder / "last.ckpt"
    data = journal.follow(toy.online_data(buffer_size=sizes[0]))
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[saver(toy, every)])
    assert data.online_rows == min(sizes[0], 20)
    for run, buffer_size in enumerate(sizes[1:], 2):
        before, data = data.online_rows, journal.follow(toy.online_data(buffer_size=buffer_size))
        start = AtStart(data)
        callbacks = [saver(toy, every), start]
        toy.fit(toy.algorithm("PEX"), 10 * run, data=data, resume=path, callbacks=callbacks)
        assert data.env_steps == len(journal) == start.env_steps + 10 == 10 * run + 10
        assert min(before, buffer_size) <= start.length <= buffer_size
        assert same(start.rows, journal.newest(start.length + 10)[: start.length])
        assert data.online_rows == min(buffer_size, start.length + 10)
        assert same(content(data), journal.newest(data.online_rows))


def test_a_data_module_that_was_trained_with_can_be_resumed(toy: Any) -> None:
    journal = Journal()
    data = journal.follow(toy.online_data(buffer_size=18))
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[saver(toy)])
    for steps in (15, 20):
        path = toy.folder / "last.ckpt"
        toy.fit(toy.algorithm("PEX"), steps, data=data, resume=path, callbacks=[saver(toy)])
        assert data.env_steps == len(journal) == steps + 10
        assert same(content(data), journal.newest(18))
    other = toy.online_data(buffer_size=18)
    start = AtStart(other)
    toy.fit(
        toy.algorithm("PEX"),
        25,
        data=other,
        resume=toy.folder / "last.ckpt",
        callbacks=[start],
    )
    assert same(start.rows, journal.newest(18))


@pytest.mark.parametrize("sizes", [(1000, 1000), (18, 18), (12, 1000), (1000, 12)])
def test_a_resume_in_another_folder_writes_all_it_needs(sizes: tuple[int, int], toy: Any) -> None:
    journal, other = Journal(), toy.folder / "other"
    data = journal.follow(toy.online_data(buffer_size=sizes[0]))
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[saver(toy)])
    data = journal.follow(toy.online_data(buffer_size=sizes[1]))
    toy.fit(
        toy.algorithm("PEX"),
        20,
        data=data,
        resume=toy.folder / "last.ckpt",
        callbacks=[RunCheckpoint(other, 5, Evaluation(1, 10**6, seed=0, num_envs=1))],
    )
    again = toy.online_data(buffer_size=sizes[1])
    start = AtStart(again)
    toy.fit(
        toy.algorithm("PEX"),
        25,
        data=again,
        resume=other / "last.ckpt",
        callbacks=[start],
    )
    assert start.length == data.online_rows
    assert same(start.rows, journal.newest(start.length))


def replay_rows(folder: Path) -> list[tuple[int, int]]:
    names = sorted(path.name for path in (folder / "replay" / "rank-0").iterdir())
    return [tuple(int(number) for number in name.split("-")[1:3]) for name in names]


def test_each_save_writes_the_new_rows_and_drops_what_nobody_needs(toy: Any) -> None:
    seen: list[list[tuple[int, int]]] = []

    class Look(RunCheckpoint):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            super().on_train_batch_end(*args, **kwargs)
            seen.append(replay_rows(toy.folder))

    look = Look(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))
    toy.fit(toy.algorithm("PEX"), 25, data=toy.online_data(buffer_size=18), callbacks=[look])
    assert seen == [
        [(0, 15)],
        [(0, 15), (15, 20)],
        [(0, 15), (15, 20), (20, 25)],
        [(0, 15), (15, 20), (20, 25), (25, 30)],
        [(15, 20), (20, 25), (25, 30), (30, 35)],
    ]


def test_rows_that_were_replaced_before_a_save_are_not_written(toy: Any) -> None:
    data = toy.online_data(buffer_size=4)
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[saver(toy)])
    assert replay_rows(toy.folder) == [(16, 20)]


def test_a_resumed_run_adds_to_the_files_that_are_there(toy: Any) -> None:
    path = toy.folder / "last.ckpt"
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[saver(toy)])
    toy.fit(toy.algorithm("PEX"), 15, resume=path, callbacks=[saver(toy)])
    assert replay_rows(toy.folder) == [(0, 15), (15, 20), (20, 25)]


def test_a_larger_buffer_takes_the_rows_over(toy: Any) -> None:
    journal = Journal()
    data = journal.follow(toy.online_data(buffer_size=12))
    toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[saver(toy)])
    assert data.online_rows == 12
    larger = journal.follow(toy.online_data(buffer_size=100))
    toy.fit(toy.algorithm("PEX"), 15, data=larger, resume=toy.folder / "last.ckpt")
    # The files of the smaller buffer, whole: rows 3 to 15 and 15 to 20.
    assert larger.online_rows == 17 + 5
    assert larger._online[:].batch_size == (22,)
    assert same(content(larger), journal.newest(22))


def test_a_smaller_buffer_takes_the_newest_rows_over(toy: Any) -> None:
    data = toy.online_data(buffer_size=20)
    toy.fit(toy.algorithm("PEX"), 20, data=data, callbacks=[saver(toy)])
    kept = content(data).clone()
    smaller = toy.online_data(buffer_size=7)
    start = AtStart(smaller)
    toy.fit(
        toy.algorithm("PEX"),
        25,
        data=smaller,
        resume=toy.folder / "last.ckpt",
        callbacks=[start],
    )
    assert start.length == 7
    assert same(start.rows, kept[-7:])


def test_a_buffer_smaller_than_a_batch_of_frames_keeps_the_newest(toy: Any) -> None:
    journal = Journal()
    data = journal.follow(toy.online_data(buffer_size=4, chunk_size=10))
    toy.fit(toy.algorithm("PEX"), 10, data=data)
    assert data.online_rows == 4
    position = torch.arange(data.env_steps - 4, data.env_steps) % toy.time_limit
    assert content(data)["next", "reward"].flatten().tolist() == position.tolist()
    assert same(content(data), journal.newest(4))
    # No batch writes the same place twice; which of the two would stay is not defined.
    assert max(frames.shape[0] for frames in journal.frames) == 4


def test_a_checkpoint_without_its_replay_buffer_is_refused(toy: Any) -> None:
    trainer = toy.fit(toy.algorithm("PEX"), 10)
    path = toy.folder / "bare.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(UserError, match=r"bare\.ckpt was saved without its replay buffer"):
        toy.fit(toy.algorithm("PEX"), 20, resume=path)


def test_missing_replay_files_and_another_number_of_processes_are_refused(toy: Any) -> None:
    toy.fit(toy.algorithm("PEX"), 10, callbacks=[saver(toy)])
    path = toy.folder / "last.ckpt"
    raw = torch.load(path, weights_only=True)
    raw["data_state"]["replay"] *= 2
    torch.save(raw, toy.folder / "two.ckpt")
    with pytest.raises(UserError, match=r"by 2 process\(es\), this run has 1"):
        toy.fit(toy.algorithm("PEX"), 20, resume=toy.folder / "two.ckpt")
    next((toy.folder / "replay" / "rank-0").iterdir()).unlink()
    with pytest.raises(UserError, match="`replay` folder"):
        toy.fit(toy.algorithm("PEX"), 20, resume=path)


def test_an_interrupt_while_collecting_ends_at_once(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy.online_data(start_steps=10**6)
    add = data.statistics.add

    def add_and_stop(batch: Any, environment: int) -> None:
        add(batch, environment)
        data.trainer.should_stop = True

    monkeypatch.setattr(data.statistics, "add", add_and_stop)
    checkpoint = saver(toy)
    trainer = toy.fit(toy.algorithm("PEX"), 10, data=data, callbacks=[checkpoint])
    assert trainer.global_step == 0
    assert data.env_steps == data.online_rows == MOST_FRAMES_AT_ONCE == 100
    monkeypatch.undo()
    other = toy.online_data(start_steps=150)
    toy.fit(toy.algorithm("PEX"), 10, data=other, resume=checkpoint.last)
    assert other.env_steps == other.online_rows == 160


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offline_fraction", 1.5),
        ("offline_fraction", -0.1),
        ("updates_per_step", 0.0),
        ("buffer_size", 0),
        ("start_steps", 0),
        ("num_collectors", -1),
    ],
)
def test_settings_outside_of_their_range_are_refused(key: str, value: float, toy: Any) -> None:
    with pytest.raises(UserError, match=rf"--data\.{key} is "):
        toy.online_data(**{key: value})


def test_the_share_of_offline_rows_is_annealed(toy: Any) -> None:
    data = toy.online_data(
        offline_fraction=0.75, offline_fraction_end=0.0, offline_fraction_steps=20
    )
    shares = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *args: Any) -> None:
            # Online observations are multiples of 0.1 in their first number.
            tenths = batch["observation"][..., 0] * 10
            shares.append((tenths != tenths.round()).float().mean().item())

    toy.fit(toy.algorithm("PEX"), 30, data=data, callbacks=[Look()])
    assert shares == [0.75, 0.5625, 0.375, 0.1875, 0.0, 0.0]


def test_a_trial_does_not_change_how_steps_and_updates_alternate(toy: Any) -> None:
    data = toy.online_data(start_steps=10, max_env_steps=15)
    toy.fit(toy.algorithm("Direct"), 5, data=data, fast_dev_run=True)
    assert data.env_steps < 10
    toy.fit(toy.algorithm("Direct"), 5, data=data)
    assert data.env_steps == 15
