from typing import Any

import pytest

from pex_lightning.callbacks.metrics import TrainMetrics


class Memory:
    """Stands in for a logger."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


def train(
    toy: Any, steps: int, every: int, name: str = "IQL", **settings: Any
) -> list[tuple[int, dict[str, float]]]:
    from pytorch_lightning.loggers.logger import DummyLogger

    memory = Memory()

    class Logger(DummyLogger):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            memory.log_metrics(metrics, step)

    toy.fit(
        toy.algorithm(name),
        steps,
        callbacks=[TrainMetrics()],
        logger=Logger(),
        log_every_n_steps=every,
        **settings,
    )
    return memory.rows


@pytest.mark.parametrize(
    ("every", "expected"),
    [(10, [10, 20, 30]), (5, [5, 10, 15, 20, 25, 30]), (7, [10, 15, 25, 30]), (1000, [])],
)
def test_a_row_at_the_first_chunk_end_of_each_interval(
    every: int, expected: list[int], toy: Any
) -> None:
    assert [step for step, _ in train(toy, 30, every)] == expected


def test_offline_rows_hold_the_learners_diagnostics(toy: Any) -> None:
    (_, row), *_ = train(toy, 10, 10)
    assert {"train/q_loss", "train/v_loss", "train/policy_loss", "train/weight"} <= set(row)
    assert {"train/q_disagreement", "train/weight_at_cap", "train/weight_near_zero"} <= set(row)
    assert not any(name.startswith("train/q/") for name in row)
    assert row["train/updates_per_second"] > 0
    assert row["env_steps"] == 0
    assert all(isinstance(value, float | int) for value in row.values())


def test_online_rows_also_say_who_acted(toy: Any) -> None:
    rows = train(toy, 20, 10, name="PEX")
    assert [row["env_steps"] for _, row in rows] == [20, 30]
    for _, row in rows:
        assert 0 <= row["train/offline_policy_share"] <= 1
        assert 0 <= row["train/choice_entropy"] <= 0.6932
        assert row["train/episode_return"] == 15.0
        assert row["train/episode_return_std"] == 0.0
        assert {"train/q/offline", "train/q/online"} <= set(row)
        assert 0 <= row["train/choice_entropy_fraction"] <= 1
        assert row["train/admitted"] == 1
    assert [row["train/episodes"] for _, row in rows] == [4, 6]


def test_a_resumed_run_goes_on_with_the_interval(toy: Any) -> None:
    trainer = toy.fit(toy.algorithm("IQL"), 15)
    path = toy.folder / "a.ckpt"
    trainer.save_checkpoint(path)
    rows = train(toy, 30, 10, resume=path)
    assert [step for step, _ in rows] == [20, 30]


def test_no_interval_is_no_row(toy: Any) -> None:
    assert train(toy, 10, 0) == []
