import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np
import pytest

from pex_lightning.datasets import columns as hdf5
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.datasets.dataset import Dataset
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CLIP = np.float32(1 - 1e-5)
Arrays = dict[str, np.ndarray]

SPEC = EnvSpec(
    id="Some-v0",
    kwargs=MappingProxyType({}),
    obs_dim=3,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    max_episode_steps=7,
)


def reference(
    data: Arrays, limit: int, as_published: bool = False
) -> tuple[dict[str, list[object]], list[float], list[int]]:
    """The file's meaning, row by row."""
    size = len(data["rewards"])
    kept: dict[str, list[object]] = {
        key: [] for key in ("row", "observation", "action", "next", "reward", "d", "cut")
    }
    returns, lengths = [], []
    step, total = 0, 0.0
    for i in range(size):
        step += 1
        total += float(data["rewards"][i])
        terminal = bool(data["terminals"][i])
        timeout = bool(data["timeouts"][i]) if "timeouts" in data else step == limit
        if terminal or timeout:
            returns.append(total)
            lengths.append(step)
            step, total = 0, 0.0
        last = i == size - 1
        if "next_observations" in data:
            following = data["next_observations"][i]
            cut = timeout or last
        elif (timeout or last) and not (terminal and not as_published):
            # Known only now: the row kept before does not go on.
            if kept["row"] and kept["row"][-1] == i - 1 and not kept["d"][-1]:
                kept["cut"][-1] = True
            continue
        else:
            # That of a terminal row is masked; the last one has none.
            following = data["observations"][min(i + 1, size - 1)]
            cut = False
        values = (
            i,
            data["observations"][i],
            np.clip(data["actions"][i], -CLIP, CLIP),
            following,
            data["rewards"][i],
            terminal,
            cut and not terminal,
        )
        for key, value in zip(kept, values, strict=True):
            kept[key].append(value)
    return kept, returns, lengths


def random_data(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 60))
    data: Arrays = {
        "observations": rng.normal(size=(size, 3)).astype(np.float32),
        "actions": np.clip(rng.normal(size=(size, 2)), -1, 1).astype(np.float32),
        "rewards": rng.normal(size=size).astype(np.float32),
        "terminals": rng.random(size) < rng.choice([0, 0.1, 0.5]),
    }
    if rng.random() < 0.6:
        data["timeouts"] = rng.random(size) < rng.choice([0, 0.1, 0.4])
    if rng.random() < 0.3:
        data["next_observations"] = rng.normal(size=(size, 3)).astype(np.float32)
    return data


def write(path: Path, data: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in data.items():
            file[key] = values
    return path


def check_equal(dataset: Dataset, data: Arrays, limit: int, as_published: bool = False) -> None:
    kept, returns, lengths = reference(data, limit, as_published)
    tensordict = dataset.transitions.tensordict
    for key, name in (
        ("observation", "observation"),
        ("action", "action"),
        (("next", "observation"), "next"),
    ):
        np.testing.assert_array_equal(tensordict[key].numpy(), np.stack(kept[name]))
    for key, name in (("reward", "reward"), ("terminated", "d"), ("truncated", "cut")):
        np.testing.assert_array_equal(tensordict["next", key][:, 0].numpy(), kept[name])
    np.testing.assert_allclose(dataset.episode_returns, returns, atol=1e-4, rtol=1e-6)
    assert dataset.episode_lengths.tolist() == lengths
    assert dataset.info.transitions == len(kept["row"]) == len(dataset.transitions)
    assert dataset.info.rows == len(data["rewards"])
    assert dataset.info.episodes == len(lengths)
    assert dataset.info.terminals == data["terminals"].sum()


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_equals_row_by_row_reference(
    seed: int, as_published: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_data(seed)
    path = write(tmp_path / "data.hdf5", data)
    limit = 2 + seed % 9
    if seed % 2:
        # Blocks of a few rows, so that their edges fall anywhere in an episode.
        monkeypatch.setattr(hdf5, "_BLOCK_BYTES", 12 * (1 + seed % 5))
    how = {"max_episode_steps": limit, "as_published": as_published}
    if not reference(data, limit, as_published)[0]["row"]:
        with pytest.raises(UserError, match=r"none of its .* rows is left"):
            read_d4rl(path, **how)
        return
    dataset = read_d4rl(path, **how)
    check_equal(dataset, data, limit, as_published)
    dropped = dataset.info.terminals_dropped
    assert (
        dropped
        == data["terminals"].sum() - dataset.transitions.tensordict["next", "terminated"].sum()
    )
    assert as_published or dropped == 0


@pytest.mark.parametrize("name", ["antmaze-umaze", "door-human"])
def test_recorded_files_equal_the_reference(name: str) -> None:
    path = SHARED / "data" / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"needs the shared file {path.name}")
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    with h5py.File(path) as file:
        data = {key: file[key][:] for key in keys}
    check_equal(read_d4rl(path), data, 0)


def test_a_terminal_row_keeps_its_successor_and_a_time_out_is_dropped(tmp_path: Path) -> None:
    data = random_data(0) | {
        "observations": np.arange(15, dtype=np.float32).reshape(5, 3),
        "actions": np.zeros((5, 2)),
        "rewards": np.arange(5.0),
        "terminals": np.array([0, 1, 0, 0, 1], dtype=bool),
        "timeouts": np.array([0, 0, 0, 1, 0], dtype=bool),
    }
    data.pop("next_observations", None)
    transitions = read_d4rl(write(tmp_path / "a.hdf5", data)).transitions
    # The last row is terminal: whatever its next observation is, it is masked.
    assert transitions.reward[:, 0].tolist() == [0, 1, 2, 4]
    assert transitions.next_observation[:3, 0].tolist() == [3, 6, 9]
    assert transitions.tensordict["next", "terminated"][:, 0].tolist() == [False, True, False, True]
    assert transitions.tensordict["next", "truncated"][:, 0].tolist() == [False, False, True, False]


def test_episode_length_comes_from_the_environment(tmp_path: Path) -> None:
    data = plain(rows=30)
    del data["timeouts"]
    path = write(tmp_path / "a.hdf5", data)
    assert read_d4rl(path, spec=SPEC).episode_lengths.tolist() == [7] * 4
    assert read_d4rl(path, spec=SPEC, max_episode_steps=10).episode_lengths.tolist() == [10] * 3
    with pytest.raises(UserError, match="no 'timeouts'"):
        read_d4rl(path)
    with pytest.raises(UserError, match="is 0; it must be at least 1"):
        read_d4rl(path, max_episode_steps=0)


def test_types_and_column_vectors_are_converted(tmp_path: Path) -> None:
    data = plain(rows=9)
    same = {
        "observations": data["observations"].astype(np.float64),
        "actions": data["actions"],
        "rewards": data["rewards"][:, None].astype(np.float64),
        "terminals": data["terminals"].astype(np.uint8),
        "timeouts": data["timeouts"].astype(np.float32)[:, None],
    }
    first = read_d4rl(write(tmp_path / "a.hdf5", data))
    second = read_d4rl(write(tmp_path / "b.hdf5", same))
    assert (first.transitions.tensordict == second.transitions.tensordict).all()
    assert first.info.fingerprint == second.info.fingerprint
    assert (first.info.name, first.info.path) == ("a", str(tmp_path / "a.hdf5"))


def test_fingerprint_depends_on_values_not_on_compression(tmp_path: Path) -> None:
    data = plain(rows=5000)
    first = read_d4rl(write(tmp_path / "a.hdf5", data)).info.fingerprint
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for key, values in data.items():
            file.create_dataset(key, data=values, compression="gzip", chunks=True)
    assert read_d4rl(tmp_path / "b.hdf5").info.fingerprint == first
    for key in data:
        changed = {name: values.copy() for name, values in data.items()}
        changed[key].flat[7] = 1 - changed[key].flat[7]
        assert read_d4rl(write(tmp_path / "c.hdf5", changed)).info.fingerprint != first


def plain(rows: int = 20) -> Arrays:
    rng = np.random.default_rng(0)
    timeouts = np.zeros(rows, dtype=bool)
    timeouts[9::10] = True
    return {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(0, 1, size=(rows, 2)).astype(np.float32),
        "rewards": rng.uniform(0, 1, size=rows).astype(np.float32),
        "terminals": np.zeros(rows, dtype=bool),
        "timeouts": timeouts,
    }


def changed(key: str, at: object, value: float) -> Callable[[Arrays], None]:
    def change(data: Arrays) -> None:
        data[key] = data[key].astype(np.float32)
        data[key][at] = value

    return change


def replaced(key: str, values: np.ndarray) -> Callable[[Arrays], None]:
    def change(data: Arrays) -> None:
        data[key] = values

    return change


def emptied(data: Arrays) -> None:
    for key in data:
        data[key] = data[key][:0]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: data.pop("rewards"), "keys rewards are missing. Found: actions, obs"),
        (emptied, "it has no rows"),
        (lambda data: data.update(timeouts=np.ones(20, bool)), "none of its 20 rows is left"),
        (replaced("rewards", np.zeros(19)), "number of rows .*observations 20.*rewards 19"),
        (changed("observations", (4, 1), np.nan), "'observations' has NaN.* in 1 of 20.*row 4"),
        (changed("actions", slice(5, 8), np.inf), "'actions' has NaN.* in 3 of 20 .*row 5"),
        (changed("rewards", 19, -np.inf), "'rewards' has NaN or infinity in 1 .*row 19"),
        (replaced("rewards", np.full(20, 1e300)), "'rewards' has NaN or infinity in 20 of 20"),
        (changed("terminals", 3, 0.5), "'terminals' has 1 .*neither.*first 0.5 in row 3"),
        (changed("timeouts", 3, 2), "'timeouts' has 1 .*neither.*first 2 in row 3"),
        (
            changed("actions", (0, 1), 1.5),
            "1 of 18 actions.*transition 0: number 1 of its action is 1.5",
        ),
        (replaced("observations", np.zeros(20)), r"'observations' has shape \[20\], expected \["),
        (replaced("rewards", np.zeros((20, 2))), r"'rewards' has shape \[20, 2\], expected \[r"),
        (replaced("actions", np.zeros((20, 2, 1))), r"'actions' has shape \[20, 2, 1\]"),
        (replaced("rewards", np.float32(1)), r"'rewards' has shape \[\]"),
        (replaced("rewards", np.array([b"1"] * 20)), r"'rewards' has type \|S1, expected numbers"),
        (replaced("actions", np.zeros((20, 2), np.complex64)), "'actions' has type complex64"),
        (replaced("next_observations", np.zeros((20, 4))), "'next_observations' 4; they must"),
    ],
)
@pytest.mark.parametrize("spec", [None, SPEC])
def test_bad_values_are_refused(
    change: Callable[[Arrays], None], found: str, spec: EnvSpec | None, tmp_path: Path
) -> None:
    data = plain()
    read_d4rl(write(tmp_path / "good.hdf5", data), spec=spec)
    change(data)
    path = write(tmp_path / "bad.hdf5", data)
    with pytest.raises(UserError, match=found) as caught:
        read_d4rl(path, spec=spec)
    assert str(path) in str(caught.value)


def test_bad_rows_are_counted_over_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_BLOCK_BYTES", 5 * 3 * 4)
    data = plain()
    data["observations"][[6, 7, 19], 2] = np.nan
    with pytest.raises(UserError, match="in 3 of 20 rows, first in row 6"):
        read_d4rl(write(tmp_path / "a.hdf5", data))


def test_another_environment_is_refused(tmp_path: Path) -> None:
    data = plain() | {"observations": np.zeros((20, 29))}
    with pytest.raises(UserError, match=r"'observations' have 29 numbers per row.*Some-v0 have 3"):
        read_d4rl(write(tmp_path / "a.hdf5", data), spec=SPEC)
    data = plain() | {"actions": np.zeros((20, 8))}
    with pytest.raises(UserError, match=r"'actions' have 8 numbers per row.*Some-v0 have 2"):
        read_d4rl(write(tmp_path / "a.hdf5", data), spec=SPEC)


def test_missing_files_name_their_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "antmaze-umaze.hdf5", plain())
    with pytest.raises(UserError, match=r"no file antmaze-umase.hdf5 .*antmaze-umaze\.hdf5"):
        read_d4rl(tmp_path / "antmaze-umase.hdf5")
    with pytest.raises(UserError, match=r"no file zzz.* antmaze-umaze\.hdf5"):
        read_d4rl(tmp_path / "zzz")
    with pytest.raises(UserError, match=r"is a folder.* antmaze-umaze"):
        read_d4rl(tmp_path)
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        read_d4rl(tmp_path / "no" / "file.hdf5")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_files_of_another_kind_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"is not an HDF5 file \\({len(content):,} bytes\\)"):
        read_d4rl(path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_files_cut_short_are_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", plain(rows=2000))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="cut short or damaged"):
        read_d4rl(path)


def test_damaged_chunks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in plain(rows=2000).items():
            file.create_dataset(key, data=values, compression="gzip")
        chunk = file["observations"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with pytest.raises(UserError, match="cut short or damaged"):
        read_d4rl(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", plain())
    path.chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        read_d4rl(path)


def with_external_link(file: h5py.File, other: Path) -> None:
    file["rewards"] = h5py.ExternalLink(str(other), "rewards")


def with_soft_link(file: h5py.File, other: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(other), "/")
    file["rewards"] = h5py.SoftLink("/elsewhere/rewards")


def with_virtual_array(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(20,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", shape=(20,))
    file.create_virtual_dataset("rewards", layout)


def with_external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("rewards", shape=(20,), dtype="f4", external=[(str(other), 0, 80)])


def with_group(file: h5py.File, other: Path) -> None:
    file.create_group("rewards")


@pytest.mark.parametrize(
    ("put", "found"),
    [
        (with_external_link, "'rewards' is a link"),
        (with_soft_link, "'rewards' is a link"),
        (with_virtual_array, "'rewards' is stored in other files"),
        (with_external_storage, "'rewards' is stored in other files"),
        (with_group, "'rewards' is a group"),
    ],
)
def test_other_files_are_not_opened(
    put: Callable[[h5py.File, Path], None], found: str, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.hdf5", plain())
    data = plain()
    del data["rewards"]
    path = write(tmp_path / "a.hdf5", data)
    with h5py.File(path, "a") as file:
        put(file, other)
    with pytest.raises(UserError, match=found):
        read_d4rl(path)
