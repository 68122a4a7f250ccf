import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.handover import read_checkpoint


class Scripted(Evaluation):
    """Scores by gradient step instead of by episodes."""

    def __init__(self, scores: dict[int, float], every: int = 5, name: str = "eval/return") -> None:
        super().__init__(1, every, seed=0, num_envs=1)
        self.scores, self.name, self.evaluated = scores, name, []

    def _evaluate(self, trainer: Any, module: Any) -> None:
        step = trainer.global_step
        self.latest = {self.name: self.scores.get(step, -1.0)}
        self.evaluated_at = step
        self.evaluated.append(step)


class Counting(RunCheckpoint):
    """Notes at which steps each file was saved."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.saves: list[tuple[str, int]] = []

    def _save(self, trainer: Any, path: Path) -> None:
        super()._save(trainer, path)
        self.saves.append((path.name, trainer.global_step))


def step_of(path: Path) -> int:
    return read_checkpoint(path).header.gradient_steps


def best_steps(checkpoint: Counting) -> list[int]:
    return sorted({step for name, step in checkpoint.saves if name == "best.ckpt"})


def train(toy: Any, steps: int, scores: dict[int, float], every: int = 10, **settings: Any) -> Any:
    evaluation = Scripted(
        scores, settings.pop("evaluate", 5), settings.pop("metric", "eval/return")
    )
    checkpoint = Counting(toy.folder / "c", every, evaluation)
    name = settings.pop("algorithm", "IQL")
    callbacks = [evaluation, *settings.pop("callbacks", []), checkpoint]
    toy.fit(toy.algorithm(name), steps, callbacks=callbacks, **settings)
    return checkpoint


def test_last_is_saved_at_its_interval_and_at_the_end(toy: Any) -> None:
    checkpoint = train(toy, 25, {}, every=10)
    assert [step for name, step in checkpoint.saves if name == "last.ckpt"] == [10, 20, 25]
    assert step_of(checkpoint.last) == 25
    files = sorted(path.name for path in (toy.folder / "c").iterdir())
    assert files == ["best.ckpt", "last.ckpt"]


def test_an_interval_off_the_chunk_grid_is_kept_too(toy: Any) -> None:
    checkpoint = train(toy, 40, {}, every=7, evaluate=1000)
    steps = [0, *(step for name, step in checkpoint.saves if name == "last.ckpt")]
    gaps = [after - before for before, after in pairwise(steps)]
    assert max(gaps) < 7 + 5


def test_an_interrupt_saves_where_it_stopped(toy: Any) -> None:
    checkpoint = train(toy, 25, {}, every=1000, callbacks=[toy.StopAt(15)])
    assert step_of(checkpoint.last) == 15
    assert [save for save in checkpoint.saves if save[0] == "last.ckpt"] == [("last.ckpt", 15)]


def test_best_is_the_best_evaluation_so_far(toy: Any) -> None:
    scores = {0: -5.0, 5: 1.0, 10: 3.0, 15: 2.0, 20: 3.0}
    checkpoint = train(toy, 20, scores)
    # Of equally good ones the later.
    assert best_steps(checkpoint) == [0, 5, 10, 20]
    assert step_of(checkpoint.best) == 20


def test_the_start_may_stay_the_best(toy: Any) -> None:
    checkpoint = train(toy, 20, {0: 9.0, 10: 1.0, 20: 0.0}, evaluate=10)
    assert best_steps(checkpoint) == [0]
    assert step_of(checkpoint.best) == 0


def test_the_score_counts_where_there_is_one(toy: Any) -> None:
    checkpoint = train(toy, 10, {5: 2.0, 10: 1.0}, metric="eval/score")
    assert step_of(checkpoint.best) == 5


def test_best_holds_parameters_that_were_evaluated(toy: Any) -> None:
    checkpoint = train(toy, 20, {0: -5.0, 10: 1.0, 20: 0.0}, evaluate=10)
    assert best_steps(checkpoint) == [0, 10]


def test_an_interrupt_right_after_a_resume_does_not_change_the_best(toy: Any) -> None:
    first = train(toy, 100, {10: 5.0}, evaluate=10, callbacks=[toy.StopAt(15)])
    assert (step_of(first.best), step_of(first.last)) == (10, 15)

    class StopAtOnce(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = True

    second = train(toy, 100, {}, evaluate=10, callbacks=[StopAtOnce()], resume=first.last)
    assert step_of(second.best) == 10


def test_the_best_score_survives_a_resume(toy: Any) -> None:
    first = train(toy, 20, {5: 5.0, 10: 1.0, 15: 1.0, 20: 1.0})
    second = train(toy, 30, {25: 4.0, 30: 3.0}, resume=first.last)
    assert best_steps(second) == []
    third = train(toy, 40, {35: 6.0}, resume=second.last)
    assert best_steps(third) == [35]


def test_both_files_can_be_resumed(toy: Any) -> None:
    first = train(toy, 20, {10: 5.0}, algorithm="PEX")
    assert (step_of(first.best), step_of(first.last)) == (10, 20)
    for path, env_steps in ((first.best, 20), (first.last, 30)):
        data = toy.online_data()

        class Look(Callback):
            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                self.steps = (trainer.global_step, trainer.datamodule.env_steps)

        look = Look()
        toy.fit(toy.algorithm("PEX"), 25, data=data, resume=path, callbacks=[look])
        assert look.steps == (env_steps - 10, env_steps)


def test_a_kill_while_writing_leaves_the_previous_checkpoint(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(toy, 10, {})
    before = [path.read_bytes() for path in (first.last, first.best)]

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    # A process that is killed does not clean up either.
    monkeypatch.setattr("pex_lightning.files.atomic.os.replace", killed)
    monkeypatch.setattr("pex_lightning.files.atomic.Path.unlink", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(toy, 20, {}, resume=first.last)
    assert [path.read_bytes() for path in (first.last, first.best)] == before
    assert list((toy.folder / "c").glob(".*.part"))
    monkeypatch.undo()
    third = train(toy, 20, {}, resume=first.last)
    assert step_of(third.last) == 20
    assert not list((toy.folder / "c").glob(".*.part"))


def test_replay_files_are_kept_for_both_checkpoints_and_no_longer(toy: Any) -> None:
    data = toy.online_data(buffer_size=15)
    first = train(toy, 30, {10: 5.0}, every=5, algorithm="PEX", data=data)
    folder = toy.folder / "c" / "replay" / "rank-0"

    def needed(path: Path) -> set[str]:
        (mine,) = torch.load(path, weights_only=True)["data_state"]["replay"]
        return {segment["file"] for segment in mine}

    assert needed(first.best) - needed(first.last)
    assert {path.name for path in folder.iterdir()} == needed(first.best) | needed(first.last)
    # A run that goes on from `last` still keeps what `best` needs, and no leftovers.
    leftover = folder / ".rows-000000000-000000005-abcd.pt.part"
    leftover.touch()
    (folder / "rows-000000000-000000005-abcd.pt").touch()
    data = toy.online_data(buffer_size=15)
    second = train(toy, 40, {}, every=5, algorithm="PEX", data=data, resume=first.last)
    assert step_of(second.best) == 10
    assert {path.name for path in folder.iterdir()} == needed(second.best) | needed(second.last)


def test_a_damaged_last_does_not_keep_best_from_being_resumed(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(toy, 10, {5: 5.0}, algorithm="PEX")
    first.last.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING, "pex_lightning.callbacks.checkpoint"):
        second = train(toy, 20, {}, algorithm="PEX", resume=first.best)
    (warning,) = [
        r.message for r in caplog.records if r.name == "pex_lightning.callbacks.checkpoint"
    ]
    assert warning.startswith(f"{first.last} is damaged")
    assert step_of(second.last) == 20
    assert step_of(second.best) == 5


def test_leftover_parts_are_removed_though_nothing_is_saved_in_their_place(toy: Any) -> None:
    first = train(toy, 10, {0: 9.0})
    parts = [toy.folder / "c" / f".{name}.ckpt.part" for name in ("best", "last")]
    for part in parts:
        part.write_bytes(b"half")

    class Look(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            self.left = [part for part in parts if part.exists()]

    look = Look()
    second = train(toy, 15, {}, every=1000, callbacks=[look], resume=first.last)
    assert best_steps(second) == []
    assert look.left == []
    assert step_of(second.last) == 15


def test_a_data_module_of_a_users_resumes_and_exports(toy: Any) -> None:
    """Nothing finds the state of the data module by the name of its class."""
    from own_methods import OwnData, Renamed
    from pex_lightning.export.experience import read_experience

    settings = {"env": toy.env, "path": str(toy.dataset), "batch_size": 16, "start_steps": 10}
    settings |= {"reward_transform": "subtract_one"}
    evaluation = Evaluation(episodes=1, every=10, seed=0, num_envs=1)
    checkpoint = RunCheckpoint(toy.folder, 10, evaluation)
    # The first evaluation is the best one, so that its buffer is not the last one's.
    evaluation.latest, evaluation.evaluated_at = {"eval/return": 1e9}, 10
    toy.fit(
        toy.algorithm("PEX"), 10, data=OwnData(chunk_size=5, **settings), callbacks=[checkpoint]
    )
    assert checkpoint.best.exists()
    rows = len(read_experience(checkpoint.best))
    for data, steps in ((OwnData, 20), (Renamed, 30)):
        module = data(chunk_size=5, **settings)
        again = RunCheckpoint(toy.folder, 10, Evaluation(1, 10**6, seed=0, num_envs=1))
        toy.fit(toy.algorithm("PEX"), steps, data=module, resume=again.last, callbacks=[again])
        assert module.env_steps == 10 + steps
        assert len(read_experience(checkpoint.best)) == rows
        assert len(read_experience(again.last)) == 10 + steps
