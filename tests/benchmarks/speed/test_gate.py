from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor


def channel(gate: Any, *turns: float) -> Any:
    lines = "".join(f"{seconds}\n" for seconds in turns)
    return gate.Channel(io.StringIO(lines), io.StringIO())


def answers(channel: Any) -> list[str]:
    found: list[str] = channel.answers.getvalue().splitlines()
    return found


class Clock:
    """A second passes with every step, none while time is read or a turn is awaited."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def steps(gate: Any, clock: Clock, units: int) -> int:
    """Run until there are no turns any more; returns the number of steps."""
    for count in itertools.count():
        if not gate.passed(count * units):
            return count
        clock.now += 1.0
    raise AssertionError


def test_a_block_is_timed_without_its_first_step(bench: Any) -> None:
    gate, clock = bench("speed.gate"), Clock()
    lines = channel(gate, 4.0, 2.5)
    waited = []
    subject = gate.Gate(lines, warm_up=3.0, clock=clock, finish=lambda: waited.append(clock.now))
    cold, warm, lead_in = gate.COLD_CALLS - 1, 3, 1
    assert steps(subject, clock, units=5) == cold + warm + lead_in + 4 + lead_in + 3
    assert answers(lines) == ["ready", "20 4.0", "15 3.0"]
    # What a step left running is waited for before a clock is started and stopped.
    assert waited == [5.0, 6.0, 10.0, 11.0, 14.0]


def test_a_long_step_is_never_left_out(bench: Any) -> None:
    gate, clock = bench("speed.gate"), Clock()
    lines = channel(gate, 0.5, 0.5)
    subject = gate.Gate(lines, warm_up=0.0, lead_in=False, clock=clock)
    assert steps(subject, clock, units=20) == 2
    assert answers(lines) == ["ready", "20 1.0", "20 1.0"]


class Toy(LightningModule):
    """Two gradient steps a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward((self.weight - 1.0) ** 2)
            optimizer.step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Iterator[Tensor]:
        return iter(torch.zeros(1_000, 1))


@pytest.mark.filterwarnings("ignore")
def test_a_fit_is_held_in_its_turns_and_ends_with_them(bench: Any) -> None:
    gate, callback = bench("speed.gate"), bench("cases.shared.gate_callback").GateCallback
    lines = channel(gate, 0.0, 0.0)
    callback.gate = gate.Gate(lines, warm_up=0.0)
    trainer = Trainer(
        max_steps=10_000,
        accelerator="cpu",
        callbacks=[callback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(Toy())
    finally:
        callback.gate = None
    ready, *blocks = answers(lines)
    assert ready == "ready"
    # One batch, which is two gradient steps, in no time at all; and one before it, untimed.
    assert [block.split()[0] for block in blocks] == ["2", "2"]
    assert trainer.global_step == 2 * (gate.COLD_CALLS + 4)
