"""The reader against the conventions of D4RL's files, spelt out one row at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pex_lightning.datasets import columns
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LARGEST_ACTION = np.float32(1 - 1e-5)
OBS_DIM, ACTION_DIM = 2, 1
FIELDS = ("observation", "action", "next_observation", "reward", "terminated", "truncated")


@dataclass(frozen=True)
class File:
    """Columns of a file; `limit` is the episode length that the user gives."""

    columns: dict[str, np.ndarray]
    limit: int
    block_rows: int = 10**6

    def has(self, key: str) -> bool:
        return key in self.columns

    @property
    def rows(self) -> int:
        return len(self.columns["rewards"])


@dataclass
class Expected:
    """What the conventions make of a file."""

    transitions: list[tuple[object, ...]] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    timeouts: int = 0


def follow_the_conventions(file: File) -> Expected:
    """Row by row: what is kept, what follows it, and which episodes are complete."""
    data, found = file.columns, Expected()
    episode: list[float] = []
    for row in range(file.rows):
        episode.append(float(data["rewards"][row]))
        terminal = bool(data["terminals"][row])
        if file.has("timeouts"):
            timeout = bool(data["timeouts"][row])
        else:
            timeout = len(episode) % file.limit == 0
        found.timeouts += timeout
        if terminal or timeout:
            found.returns.append(sum(episode))
            found.lengths.append(len(episode))
            episode = []
        transition = one_transition(file, row, terminal, timeout)
        if transition is not None:
            found.transitions.append(transition)
    return found


def one_transition(
    file: File, row: int, terminal: bool, timeout: bool
) -> tuple[object, ...] | None:
    """(s, a, s', r, d, cut) of a row; None if it has no successor in the file."""
    data = file.columns
    last = row == file.rows - 1
    if file.has("next_observations"):
        following = data["next_observations"][row]
        cut = (timeout or last) and not terminal
    elif (timeout or last) and not terminal:
        return None
    else:
        following = data["observations"][min(row + 1, file.rows - 1)]
        # The row after it is dropped, or there is none that goes on: a bootstrap over it is right,
        # going on to it is not.
        cut = not terminal and is_dropped(file, row + 1)
    action = [
        max(-LARGEST_ACTION, min(LARGEST_ACTION, np.float32(number)))
        for number in data["actions"][row]
    ]
    return (
        data["observations"][row].tolist(),
        [float(number) for number in action],
        following.tolist(),
        float(data["rewards"][row]),
        terminal,
        cut,
    )


def is_dropped(file: File, row: int) -> bool:
    terminal = bool(file.columns["terminals"][row])
    return not terminal and (row == file.rows - 1 or ends_by_time(file, row))


def ends_by_time(file: File, row: int) -> bool:
    """Whether a row times out, found by walking there from the start of the file."""
    if file.has("timeouts"):
        return bool(file.columns["timeouts"][row])
    steps = 0
    for before in range(row):
        steps = 0 if file.columns["terminals"][before] else steps + 1
    return (steps + 1) % file.limit == 0


@st.composite
def files(draw: st.DrawFn) -> File:
    """Small files: ends of both kinds anywhere, optional columns there or not."""
    rows = draw(st.integers(1, 40))
    flags = st.lists(
        st.sampled_from([False] * draw(st.integers(0, 12)) + [True]), min_size=rows, max_size=rows
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = {
        "observations": rng.normal(size=(rows, OBS_DIM)).astype(np.float32),
        "actions": rng.uniform(-1.0005, 1.0005, size=(rows, ACTION_DIM)).astype(np.float32),
        "rewards": rng.integers(-3, 4, size=rows).astype(np.float32),
        "terminals": np.array(draw(flags)),
    }
    if draw(st.booleans()):
        data["timeouts"] = np.array(draw(flags))
    if draw(st.booleans()):
        data["next_observations"] = rng.normal(size=(rows, OBS_DIM)).astype(np.float32)
    return File(data, limit=draw(st.integers(1, 15)), block_rows=draw(st.integers(1, 20)))


def write(path: Path, data: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in data.items():
            file[key] = values
    return path


def check(dataset: Dataset, file: File) -> None:
    expected = follow_the_conventions(file)
    tensors = dataset.transitions.tensordict
    found = {
        "observation": tensors["observation"],
        "action": tensors["action"],
        "next_observation": tensors["next", "observation"],
        **{key: tensors["next", key][:, 0] for key in ("reward", "terminated", "truncated")},
    }
    for key, wanted in zip(FIELDS, zip(*expected.transitions, strict=True), strict=True):
        assert found[key].tolist() == list(wanted), key
    info = dataset.info
    assert info.rows == file.rows
    assert info.transitions == len(dataset.transitions) == len(expected.transitions)
    assert info.episodes == len(expected.lengths)
    assert info.terminals == int(file.columns["terminals"].sum())
    assert info.timeouts == expected.timeouts
    assert dataset.episode_lengths.tolist() == expected.lengths
    assert dataset.episode_returns == pytest.approx(expected.returns)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(file=files())
def test_every_file_is_read_by_the_conventions(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks end anywhere in an episode.
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 4 * OBS_DIM * file.block_rows)
    path = write(tmp_path / "a.hdf5", file.columns)
    if not follow_the_conventions(file).transitions:
        with pytest.raises(UserError, match=r"none of its .* rows is left"):
            read_d4rl(path, max_episode_steps=file.limit)
        return
    check(read_d4rl(path, max_episode_steps=file.limit), file)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(file=files(), row=st.integers(0, 39), key=st.sampled_from(["observations", "actions"]))
def test_a_bad_number_anywhere_is_refused(
    file: File, row: int, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume(row < file.rows and follow_the_conventions(file).transitions)
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 4 * OBS_DIM * file.block_rows)
    data = {name: values.copy() for name, values in file.columns.items()}
    data[key][row, -1] = np.nan
    path = write(tmp_path / "a.hdf5", data)
    with pytest.raises(UserError, match=f"'{key}' has NaN.* in 1 of .* first in row {row}"):
        read_d4rl(path, max_episode_steps=file.limit)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # rows, transitions, episodes, terminals, time-outs
        ("antmaze-umaze", (200_000, 199_714, 56_911, 56_625, 286)),
        ("door-human", (6_729, 6_704, 25, 0, 25)),
    ],
)
def test_recorded_files_have_the_counts_of_the_reference(
    name: str, counts: tuple[int, ...]
) -> None:
    path = SHARED / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"needs the shared file {path.name}")
    with h5py.File(path) as raw:
        keys = ("observations", "actions", "rewards", "terminals", "timeouts")
        data = {key: raw[key][:] for key in keys}
    # The row's number stands for its observation: lists of 29 numbers would take long.
    numbers = np.arange(len(data["rewards"]))[:, None]
    small = data | {"observations": numbers, "actions": np.zeros_like(numbers)}
    expected = follow_the_conventions(File(small, limit=0))
    here, following = (
        np.array([transition[place] for transition in expected.transitions])[:, 0]
        for place in (0, 2)
    )
    dataset = read_d4rl(path)
    transitions, info = dataset.transitions, dataset.info
    np.testing.assert_array_equal(transitions.observation, data["observations"][here])
    np.testing.assert_array_equal(transitions.next_observation, data["observations"][following])
    assert dataset.episode_lengths.tolist() == expected.lengths
    assert dataset.episode_returns == pytest.approx(expected.returns)
    assert len(expected.lengths) == info.episodes
    assert counts == (info.rows, info.transitions, info.episodes, info.terminals, info.timeouts)
    digest = hashlib.sha256()
    for key in keys:
        digest.update(data[key].tobytes())
    assert info.fingerprint == digest.hexdigest()[:16]
