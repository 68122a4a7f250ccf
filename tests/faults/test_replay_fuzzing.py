"""Damaged replay buffers and what a checkpoint says of them: used as they were, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from mutations import SEED_NAMES, SEEDS, altered, attempt, mutated
from pex_lightning.callbacks.checkpoint import RunCheckpoint
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.export.experience import read_experience
from pex_lightning.replay.layout import RowSizes
from pex_lightning.replay.store import read_segments, write_segment

SIZES = RowSizes(observation=3, action=2, members=2)
ROWS = 40
OTHER_TYPES = (torch.float64, torch.float16, torch.int32, torch.bool, torch.complex64)

seeds = pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)


def counts(few: int, many: int) -> Any:
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.long)])


def rows() -> TensorDict:
    columns = {
        tuple(key.split("/")): torch.zeros(ROWS, *shape, dtype=dtype)
        for key, (dtype, shape) in SIZES.columns().items()
    }
    return TensorDict(columns, batch_size=[ROWS])


def read(folder: Path, segment: Any) -> None:
    found, message = attempt(read_segments, folder, [segment], SIZES)
    if message is None:
        assert found.shape == (ROWS,)
        assert all(value.isfinite().all() for value in found.values(True, True))
    else:
        assert segment.file in message


@seeds
@counts(30, 2_000)
def test_a_damaged_file_is_refused(tmp_path: Path, count: int, seed: int) -> None:
    segment = write_segment(tmp_path, rows(), 0, SIZES)
    file = tmp_path / segment.file
    for damaged in mutated(file.read_bytes(), count, seed, head=2**14):
        file.write_bytes(damaged)
        read(tmp_path, segment)


def change(columns: dict[str, Any], rng: np.random.Generator) -> None:
    """Alter a column as no damage of bytes does, because their checksum is right again."""
    key = str(rng.choice(list(columns)))
    value = columns[key]
    kind = rng.integers(9)
    if kind == 0:
        columns[key] = value.to(OTHER_TYPES[int(rng.integers(len(OTHER_TYPES)))])
    elif kind == 1:
        columns[key] = value.repeat(2, *[1] * (value.ndim - 1))
    elif kind == 2:
        columns[key] = value.unsqueeze(int(rng.integers(value.ndim + 1)))
    elif kind == 3:
        columns[key] = value[: int(rng.integers(len(value)))].clone()
    elif kind == 4:
        columns[key] = columns[str(rng.choice(list(columns)))]
    elif kind == 5:
        columns[str(rng.choice(["x", "next", "next/x", "", "action/x"]))] = columns.pop(key)
    elif kind == 6:
        columns[key] = [None, 5, "x", [1.0], {"x": value}][int(rng.integers(5))]
    elif kind == 7:
        columns[key] = value.view(-1)[:1].reshape([1] * value.ndim).expand(value.shape)
    else:
        noise = torch.from_numpy(np.frombuffer(rng.bytes(value.nbytes), np.uint8).copy())
        columns[key] = (noise > 127 if value.dtype is torch.bool else noise.view(value.dtype)).view(
            value.shape
        )


@seeds
@counts(60, 2_000)
def test_a_file_with_other_columns_is_refused(tmp_path: Path, count: int, seed: int) -> None:
    segment = write_segment(tmp_path, rows(), 0, SIZES)
    file = tmp_path / segment.file
    rng = np.random.default_rng(seed)
    for _ in range(count):
        columns = {"/".join(key) if isinstance(key, tuple) else key: value for key, value in ITEMS}
        change(columns, rng)
        torch.save(columns, file)
        read(tmp_path, segment)


ITEMS = list(rows().items(include_nested=True, leaves_only=True))


@pytest.fixture
def collected(toy: Any) -> Path:
    """A checkpoint of 22 rows in two segments."""
    path: Path = toy.folder / "last.ckpt"
    toy.fit(
        toy.algorithm("PEX"),
        10,
        data=toy.online_data(start_steps=12),
        callbacks=[RunCheckpoint(toy.folder, 5, Evaluation(1, 10**6, seed=0, num_envs=1))],
    )
    return path


@seeds
@counts(30, 1_000)
def test_an_altered_state_is_exported_or_refused(collected: Path, count: int, seed: int) -> None:
    raw = torch.load(collected, weights_only=True)
    for state in altered(raw["data_state"], seed, count):
        torch.save({**raw, "data_state": state}, collected)
        found, _ = attempt(read_experience, collected)
        # Without its first part a buffer is one that was full.
        assert found is None or len(found) == 22 - found.gone


@seeds
@counts(5, 100)
def test_a_run_goes_on_from_an_altered_state_or_is_refused(
    toy: Any, collected: Path, count: int, seed: int
) -> None:
    raw = torch.load(collected, weights_only=True)
    aside = toy.folder / "altered.ckpt"
    for state in altered(raw["data_state"], seed, count):
        torch.save({**raw, "data_state": state}, aside)
        data = toy.online_data(start_steps=12)
        _, message = attempt(toy.fit, toy.algorithm("PEX"), 12, data=data, resume=aside)
        if message is None:
            assert data.env_steps == 24
        else:
            assert "altered.ckpt" in message or "replay" in message
