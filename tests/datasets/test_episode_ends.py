"""Ends of episodes: every usual name is read, what contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from pex_lightning.data.sources import FileSource
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.episode_ends import FLAG_NAMES, TERMINAL_NAMES, TIMEOUT_NAMES
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"
ROWS = 30
TERMINALS = np.isin(np.arange(ROWS), [9, 24])
TIMEOUTS = np.isin(np.arange(ROWS), [4, 14, 24, 29])
ENDS = TERMINALS | TIMEOUTS
LENGTHS = [5, 5, 5, 10, 5]
STARTS = np.append(True, ENDS[:-1])


def write(path: Path, **flags: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(ROWS, 3))
        file["actions"] = rng.uniform(-1, 1, size=(ROWS, 2))
        file["rewards"] = np.arange(ROWS)
        for key, values in flags.items():
            file[key] = values
    return path


@pytest.mark.parametrize("terminal", TERMINAL_NAMES)
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, TIMEOUTS) for name in TIMEOUT_NAMES),
        ("truncations", TIMEOUTS & ~TERMINALS),
        ("episode_terminals", ENDS),
        ("episode_ends", ENDS),
        ("dones", ENDS),
        ("done", ENDS),
    ],
)
def test_usual_names_are_read(terminal: str, name: str, flags: np.ndarray, tmp_path: Path) -> None:
    dataset = read_d4rl(write(tmp_path / "a.hdf5", **{terminal: TERMINALS, name: flags}))
    assert dataset.episode_lengths.tolist() == LENGTHS
    assert dataset.info.told_by == name
    rows = dataset.transitions.reward[:, 0].tolist()
    # The terminal row 24 is also a time-out: it needs no next observation.
    assert rows == [row for row in range(ROWS) if row not in (4, 14, 29)]
    terminated = dataset.transitions.tensordict["next", "terminated"][:, 0]
    assert [rows[i] for i in terminated.nonzero()[:, 0]] == [9, 24]


def test_first_rows_tell_all_ends_but_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", terminals=TERMINALS, episode_starts=STARTS)
    dataset = read_d4rl(path)
    assert dataset.episode_lengths.tolist() == LENGTHS[:-1]
    assert len(dataset.transitions) == ROWS - 3


def test_columns_that_agree_may_stand_beside_each_other(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.hdf5",
        terminals=TERMINALS,
        terminated=TERMINALS,
        masks=~TERMINALS,
        timeouts=TIMEOUTS,
        truncated=TIMEOUTS & ~TERMINALS,
        dones=ENDS,
        episode_starts=STARTS,
    )
    dataset = read_d4rl(path)
    assert dataset.info.told_by == "timeouts"
    assert dataset.episode_lengths.tolist() == LENGTHS


def test_ends_at_terminals_alone_say_nothing_about_time_outs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", terminals=TERMINALS, dones=TERMINALS)
    with pytest.raises(UserError, match="no 'timeouts'"):
        read_d4rl(path)
    dataset = read_d4rl(path, max_episode_steps=5)
    assert dataset.info.told_by is None
    assert dataset.episode_lengths.tolist() == [5] * 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"timeouts": TIMEOUTS, "truncated": TERMINALS}, "'timeouts' and 'truncated' end .* row 4"),
        ({"timeouts": TIMEOUTS, "dones": ENDS | (np.arange(ROWS) == 7)}, "'dones' end .* row 7"),
        ({"timeouts": np.zeros(ROWS), "dones": ENDS}, "'timeouts' and 'dones' end"),
        ({"dones": TIMEOUTS & ~TERMINALS}, "2 terminal rows, first row 9, do not end .* 'dones'"),
        ({"episode_starts": np.arange(ROWS) == 0}, "do not end an episode by 'episode_starts'"),
        ({"terminated": ENDS}, "'terminals' and 'terminated' end .* row 4"),
        # The trajectory's end is called terminal, as in OGBench.
        ({"masks": np.ones(ROWS)}, "'terminals' and 'masks' end episodes at different rows"),
        ({"episode_ends": np.array([4, 9, 14])}, "differ in their number of rows"),
        ({"timeout": np.float32(1)}, r"'timeout' has shape \[\], expected \[rows\]"),
        ({"dones": np.full(ROWS, 0.5)}, "'dones' has 30 .* neither false"),
    ],
)
def test_what_contradicts_itself_is_refused(
    flags: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.hdf5", terminals=TERMINALS, **flags)
    with pytest.raises(UserError, match=message):
        read_d4rl(path, max_episode_steps=10)


def test_dones_alone_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", dones=ENDS)
    with pytest.raises(UserError, match="'dones' alone does not tell"):
        read_d4rl(path, max_episode_steps=10)


def test_a_file_of_d4rls_keeps_what_d4rl_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "hopper_random-v2.hdf5", terminals=TERMINALS, timeouts=TIMEOUTS)
    own = FileSource(path).read()
    assert (len(own.transitions), own.info.terminals_dropped, own.info.remarks) == (27, 0, ())
    published = {"gym_mujoco_v2/hopper_random-v2.hdf5": (path.stat().st_size, "")}
    monkeypatch.setattr("pex_lightning.d4rl.checksums.PUBLISHED", published)
    dataset = FileSource(path).read()
    assert (len(dataset.transitions), dataset.info.terminals_dropped) == (26, 1)
    assert dataset.info.remarks[0].startswith("1 terminal rows that are also time-outs")
    assert dataset.info.fingerprint == own.info.fingerprint


def test_every_name_has_one_meaning() -> None:
    assert len(set(FLAG_NAMES)) == len(FLAG_NAMES)


@pytest.mark.parametrize(
    ("name", "transitions", "episodes", "successes"),
    [
        ("sparse_timeouts_are_done", 990, 20, 10),
        ("success_at_limit", 985, 20, 5),
        ("end_in_truncations", 588, 12, 0),
        ("d3rlpy1", 594, 6, 0),
    ],
)
def test_cases_that_once_went_wrong(
    name: str, transitions: int, episodes: int, successes: int
) -> None:
    path = CASES / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"needs the shared file {path.name}")
    spec = EnvSpec("odd/Base-v0", {}, 3, (-2.0,), (2.0,), 50)
    dataset = read_d4rl(path, spec=spec)
    assert len(dataset.transitions) == transitions
    assert dataset.info.episodes == episodes
    terminated = dataset.transitions.tensordict["next", "terminated"][:, 0]
    assert int(terminated.sum()) == dataset.info.terminals == successes
    assert dataset.transitions.reward[terminated].tolist() == [[1.0]] * successes
