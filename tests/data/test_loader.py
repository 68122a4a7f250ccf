from types import SimpleNamespace
from typing import Any

import pytest

from pex_lightning.data.loader import ChunkLoader
from pex_lightning.data.schedule import Interval


def spans(
    max_steps: int, chunk_size: int, boundary: int | None = None, start: int = 0, stop: int = 0
) -> list[tuple[int, int]]:
    """(first step, updates) of every chunk; the trainer moves on as training would."""
    trainer: Any = SimpleNamespace(max_steps=max_steps, global_step=start)
    found: list[tuple[int, int]] = []

    def make(step: int, updates: int) -> Any:
        if stop and step >= stop:
            return None
        found.append((step, updates))
        return updates

    for updates in ChunkLoader(make, trainer, chunk_size, boundary and Interval(boundary)):
        trainer.global_step += updates
    return found


def test_chunks_start_on_a_grid_and_end_at_max_steps() -> None:
    assert spans(13, 5) == [(0, 5), (5, 5), (10, 3)]
    assert spans(4, 5) == [(0, 4)]
    assert spans(10, 5) == [(0, 5), (5, 5)]
    assert spans(3, 1) == [(0, 1), (1, 1), (2, 1)]


def test_no_chunk_crosses_the_boundary() -> None:
    assert spans(16, 5, 7) == [(0, 5), (5, 2), (7, 3), (10, 4), (14, 1), (15, 1)]
    assert spans(6, 5, 2) == [(0, 2), (2, 2), (4, 1), (5, 1)]


@pytest.mark.parametrize(
    ("start", "boundary"), [(5, None), (25, None), (5, 7), (7, 7), (10, 7), (14, 7)]
)
def test_a_resumed_run_has_the_chunks_of_the_whole_one(start: int, boundary: int | None) -> None:
    whole = spans(30, 5, boundary)
    assert start in dict(whole)
    assert spans(30, 5, boundary, start=start) == [span for span in whole if span[0] >= start]


def test_no_chunk_ends_training() -> None:
    assert spans(100, 5, stop=10) == [(0, 5), (5, 5)]


def test_a_finished_run_has_no_chunk() -> None:
    assert spans(20, 5, start=20) == []
    assert spans(20, 5, start=25) == []


def test_nothing_is_made_before_it_is_asked_for() -> None:
    made = []
    trainer: Any = SimpleNamespace(max_steps=100, global_step=0)
    loader = ChunkLoader(lambda step, updates: made.append(step) or updates, trainer, 5)
    chunks = iter(loader)
    assert made == []
    next(chunks)
    assert made == [0]


def test_training_fetches_no_chunk_ahead(toy: Any) -> None:
    data = toy.offline_data()
    module = toy.algorithm("IQL")
    made: list[tuple[int, int]] = []
    chunk = data._chunk
    data._chunk = lambda step, updates: made.append((step, updates)) or chunk(step, updates)
    toy.fit(module, 12, data=data, callbacks=[toy.StopAt(10)])
    assert made == [(0, 5), (5, 5)]
