from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from pex_lightning.datasets import columns
from pex_lightning.datasets.arrays import Arrays
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.errors import UserError
from pex_lightning.inspection.ranges import ActionSpace
from pex_lightning.inspection.summary import SHARES, Summary, summarise_dataset, summarise_file

Data = dict[str, np.ndarray]


def random_data(seed: int = 0, rows: int = 300) -> Data:
    rng = np.random.default_rng(seed)
    return {
        "observations": (rng.normal(size=(rows, 3)) * [1, 0, 50] + [0, 2, 1000]).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": rng.random(rows) < 0.05,
        "timeouts": rng.random(rows) < 0.05,
    }


def write(path: Path, data: Data) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in data.items():
            file[key] = values
    return path


def summarise(
    path: Path,
    limit: int | None = None,
    space: ActionSpace | None = None,
    as_published: bool = False,
) -> Summary:
    return summarise_file(
        path,
        lambda: read_d4rl(path, max_episode_steps=limit, as_published=as_published),
        space=space,
        max_episode_steps=limit,
        as_published=as_published,
    )


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_says_what_the_reader_says(seed: int, as_published: bool, tmp_path: Path) -> None:
    data = random_data(seed)
    if seed % 2:
        del data["timeouts"]
    if seed % 4 >= 2:
        data["next_observations"] = data["observations"] + 1
    path = write(tmp_path / "a.hdf5", data)
    dataset = read_d4rl(path, max_episode_steps=11, as_published=as_published)
    summary = summarise(path, limit=11, as_published=as_published)
    assert summary.dropped_terminals == dataset.info.terminals_dropped
    assert summary.info == dataset.info
    assert summary.refused is None
    for key in ("rows", "transitions", "episodes", "terminals", "timeouts"):
        assert getattr(summary, key) == getattr(dataset.info, key), key
    assert summary.returns == pytest.approx(np.quantile(dataset.episode_returns, SHARES))
    assert summary.lengths == pytest.approx(np.quantile(dataset.episode_lengths, SHARES))
    dropped = summary.dropped_timeouts + summary.dropped_last
    assert summary.unread == ()
    assert summary.rows - dropped == summary.transitions
    assert summary.incomplete_rows == summary.rows - dataset.episode_lengths.sum()


def test_ranges_equal_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of a few rows: results must not depend on where they are cut.
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 7 * 3 * 4)
    data = random_data()
    summary = summarise(write(tmp_path / "a.hdf5", data))
    for name in ("observations", "actions"):
        values = data[name].astype(np.float64)
        found = getattr(summary, name)
        assert [number.low for number in found] == values.min(axis=0).tolist()
        assert [number.high for number in found] == values.max(axis=0).tolist()
        np.testing.assert_allclose([number.mean for number in found], values.mean(axis=0), 1e-9)
        np.testing.assert_allclose([number.std for number in found], values.std(axis=0), 1e-7)
        assert [number.bad for number in found] == [0] * len(found)
    assert [number.constant for number in summary.observations] == [False, True, False]
    assert summary.rewards.mean == pytest.approx(data["rewards"].mean(dtype=np.float64))


def test_a_file_with_nan_is_described_and_said_to_be_refused(tmp_path: Path) -> None:
    data = random_data()
    data["observations"][[5, 9], 2] = np.nan
    data["observations"][:, 1] = np.inf
    data["rewards"][7] = np.nan
    path = write(tmp_path / "a.hdf5", data)
    with pytest.raises(UserError) as refusal:
        read_d4rl(path)
    summary = summarise(path)
    assert summary.info is None
    assert summary.refused == str(refusal.value)
    said = " ".join((summary.refused, *summary.problems))
    assert "'observations' has NaN or infinity in 300 of 300 rows" in said
    assert "'rewards' has NaN or infinity in 1 of 300 rows, first in row 7" in said
    assert [number.bad for number in summary.observations] == [0, 300, 2]
    assert np.isnan(summary.observations[1].low)
    rest = np.delete(data["observations"][:, 2].astype(np.float64), [5, 9])
    assert summary.observations[2].low == rest.min()
    assert summary.observations[2].mean == pytest.approx(rest.mean())
    assert summary.observations[2].std == pytest.approx(rest.std())
    ends = data["terminals"] | data["timeouts"]
    assert summary.episodes == ends.sum()
    # The episode with the NaN has no return; the others keep theirs.
    assert len(summary.returns) == len(SHARES)
    assert np.isfinite(summary.returns).all()


def test_a_flag_that_is_none_is_a_problem_not_an_end(tmp_path: Path) -> None:
    data = random_data() | {"terminals": np.zeros(300, np.float32)}
    data["terminals"][[3, 8]] = 1, 0.5
    summary = summarise(write(tmp_path / "a.hdf5", data))
    assert summary.terminals == 1
    assert summary.refused is not None
    assert "neither" in summary.refused


def test_actions_outside_of_their_space_are_counted(tmp_path: Path) -> None:
    data = random_data()
    data["actions"] = np.clip(data["actions"], -0.5, 0.5)
    data["actions"][:30, 0] = 1
    data["actions"][10:14] = 1.2
    path = write(tmp_path / "a.hdf5", data)
    summary = summarise(path)
    assert summary.refused is not None
    assert summary.action_use is not None
    assert summary.action_use.rows_outside == 4
    assert summary.action_use.at_bounds == pytest.approx((30 / 300, 4 / 300))
    wide = summarise(path, space=ActionSpace("Wide-v0", (-2.0, -2.0), (2.0, 2.0))).action_use
    assert wide is not None
    assert (wide.rows_outside, wide.at_bounds, wide.space.name) == (0, (0.0, 0.0), "Wide-v0")


def test_without_timeouts_or_a_length_it_does_not_guess(tmp_path: Path) -> None:
    data = random_data()
    del data["timeouts"]
    path = write(tmp_path / "a.hdf5", data)
    summary = summarise(path)
    assert summary.timeouts is None
    assert "no 'timeouts'" in (summary.refused or "")
    derived = summarise(path, limit=10)
    assert derived.timeouts_derived
    assert derived.refused is None


def test_other_names_of_ends_and_unread_arrays_are_said(tmp_path: Path) -> None:
    data = random_data()
    data["truncations"] = data.pop("timeouts")
    data["ids"] = np.arange(7)
    path = write(tmp_path / "a.hdf5", data)
    with h5py.File(path, "a") as file:
        file["infos/qpos"] = np.zeros((300, 2))
    summary = summarise(path)
    assert (summary.told_by, summary.timeouts_derived) == ("truncations", False)
    assert summary.timeouts == data["truncations"].sum()
    assert summary.unread == ("ids", "infos")


def test_contradictory_ends_are_described_and_said_to_be_refused(tmp_path: Path) -> None:
    data = random_data()
    data["dones"] = ~data["terminals"]
    summary = summarise(write(tmp_path / "a.hdf5", data))
    assert "do not end an episode by 'dones'" in (summary.refused or "")
    assert summary.terminals == data["terminals"].sum()


def test_few_rewards_are_listed(tmp_path: Path) -> None:
    data = random_data() | {"rewards": np.repeat(np.float32([0, 1, 0.5]), [200, 90, 10])}
    summary = summarise(write(tmp_path / "a.hdf5", data))
    assert [(level.value, level.rows) for level in summary.reward_levels] == [
        (0.0, 200),
        (0.5, 10),
        (1.0, 90),
    ]
    assert summarise(write(tmp_path / "b.hdf5", random_data())).reward_levels == ()


def test_files_that_are_no_datasets_get_the_readers_sentence(tmp_path: Path) -> None:
    data = random_data()
    no_rewards = write(tmp_path / "a.hdf5", {k: v for k, v in data.items() if k != "rewards"})
    text = tmp_path / "b.hdf5"
    text.write_text("<html>404</html>")
    cut = write(tmp_path / "c.hdf5", data)
    cut.write_bytes(cut.read_bytes()[:5000])
    uneven = write(tmp_path / "d.hdf5", data | {"rewards": np.zeros(7)})
    empty = write(tmp_path / "e.hdf5", {key: values[:0] for key, values in data.items()})
    for path in (no_rewards, text, cut, uneven, empty, tmp_path / "none.hdf5"):
        with pytest.raises(UserError) as expected:
            read_d4rl(path)
        with pytest.raises(UserError) as found:
            summarise(path)
        assert str(found.value) == str(expected.value)


def test_a_dataset_that_is_no_file(tmp_path: Path) -> None:
    data = random_data()
    path = write(tmp_path / "a.hdf5", data)
    dataset = Arrays(**data).read()
    summary, of_file = summarise_dataset(dataset), summarise(path)
    assert summary.info == dataset.info
    for key in ("episodes", "terminals", "timeouts", "transitions", "returns", "lengths"):
        assert getattr(summary, key) == getattr(of_file, key), key
    assert summary.rewards.low == dataset.transitions.reward.min()
