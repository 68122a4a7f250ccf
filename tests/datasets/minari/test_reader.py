"""Minari datasets made here, as anyone's would be, and what is refused of them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium import spaces

from pex_lightning.datasets import columns
from pex_lightning.datasets.minari.reader import (
    ensure_minari,
    minari_environment,
    minari_notes,
    read_minari,
)
from pex_lightning.envs.make import EnvSpec, env_spec, make_env
from pex_lightning.errors import UserError

minari = pytest.importorskip("minari", reason="the package minari is not installed")
from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

ID = "mine/some/data-v0"
GOALS = ("achieved_goal", "observation", "desired_goal")
# Two episodes that end, by a terminal and by a time-out, and one that does not.
LENGTHS, ENDS = (3, 4, 2), ("terminated", "truncated", None)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Minari's folder, empty, and no remote to ask."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("MINARI_REMOTE", "hf://nobody")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "minari").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield tmp_path / "minari"


def box(*shape: int, dtype: Any = np.float64) -> spaces.Box:
    low, high = (0, 255) if dtype == np.uint8 else (-np.inf, np.inf)
    return spaces.Box(low, high, shape, dtype)


def episodes(*widths: tuple[str, int] | int, lengths: tuple[int, ...] = LENGTHS) -> list[Any]:
    """Random episodes with observations of these widths: a number, or pairs of key and number."""
    rng = np.random.default_rng(0)
    made = []
    for steps, end in zip(lengths, (*ENDS, *(None,) * len(lengths)), strict=False):
        last = np.arange(steps) == steps - 1
        rows = {
            width if isinstance(width, int) else width[0]: rng.normal(
                size=(steps + 1, width if isinstance(width, int) else width[1])
            )
            for width in widths
        }
        made.append(
            EpisodeBuffer(
                observations=next(iter(rows.values())) if isinstance(widths[0], int) else rows,
                actions=rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
                rewards=rng.normal(size=steps),
                terminations=last & (end == "terminated"),
                truncations=last & (end == "truncated"),
            )
        )
    return made


def create(buffers: list[Any], observations: Any, dataset_id: str = ID, **kwargs: Any) -> None:
    actions = kwargs.pop("actions", spaces.Box(-1, 1, (2,), np.float32))
    minari.create_dataset_from_buffers(
        dataset_id, buffers, observation_space=observations, action_space=actions, **kwargs
    )


def alter(root: Path, dataset_id: str = ID, **fields: Any) -> None:
    """Change fields of a dataset's metadata; None removes one."""
    path = root / dataset_id / "data" / "metadata.json"
    raw = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def recorded_in(env_id: str, **fields: Any) -> str:
    spec = {"id": env_id, "entry_point": "nowhere:Env", "kwargs": {}, "additional_wrappers": []}
    return json.dumps({**spec, "max_episode_steps": None, **fields})


@pytest.fixture
def flat(root: Path) -> list[Any]:
    made = episodes(3)
    create(made, box(3))
    return made


@pytest.fixture
def hdf5(root: Path, flat: list[Any]) -> Callable[[], h5py.File]:
    return lambda: h5py.File(root / ID / "data" / "main_data.hdf5", "a")


SPEC = EnvSpec("Some-v0", {}, 3, (-1.0, -1.0), (1.0, 1.0), 7)


def test_every_step_is_a_transition_with_its_true_next_observation(flat):
    data = read_minari(ID)
    assert len(data.transitions) == 9
    expected = np.concatenate([e.observations[:-1] for e in flat]).astype(np.float32)
    following = np.concatenate([e.observations[1:] for e in flat]).astype(np.float32)
    assert np.array_equal(data.transitions.observation.numpy(), expected)
    assert np.array_equal(data.transitions.next_observation.numpy(), following)
    rewards = np.concatenate([e.rewards for e in flat]).astype(np.float32)
    assert np.array_equal(data.transitions.reward.numpy()[:, 0], rewards)
    terminated = data.transitions.tensordict["next", "terminated"].flatten()
    truncated = data.transitions.tensordict["next", "truncated"].flatten()
    assert terminated.nonzero().flatten().tolist() == [2]
    assert truncated.nonzero().flatten().tolist() == [6, 8]


def test_counts_complete_episodes_and_their_raw_returns(flat):
    data = read_minari(ID)
    assert data.episode_lengths.tolist() == [3, 4]
    assert data.episode_returns == pytest.approx([e.rewards.sum() for e in flat[:2]], rel=1e-6)
    info = data.info
    assert (info.rows, info.transitions, info.episodes) == (9, 9, 2)
    assert (info.terminals, info.timeouts) == (1, 1)
    assert (info.name, info.origin) == (f"minari:{ID}", "minari")


def test_an_unfinished_episode_is_not_added_to_the_next_one(root):
    made = episodes(3)
    create(made[::-1], box(3))
    data = read_minari(ID)
    assert data.episode_lengths.tolist() == [4, 3]
    truncated = data.transitions.tensordict["next", "truncated"].flatten()
    assert truncated.nonzero().flatten().tolist() == [1, 5]


def test_blocks_of_any_size_give_the_same(flat, monkeypatch):
    whole = read_minari(ID)
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 2 * 4 * 3)
    monkeypatch.setattr(columns, "_MAX_BLOCK_BYTES", 2 * 4 * 3)
    parts = read_minari(ID)
    assert (whole.transitions.tensordict == parts.transitions.tensordict).all()
    assert whole.info == parts.info


def test_actions_are_clipped_a_little_inside_the_action_space(root):
    made = episodes(3)
    made[0].actions[0] = 1.0
    create(made, box(3))
    for spec in (None, SPEC):
        assert float(read_minari(ID, spec=spec).transitions.action[0, 0]) == np.float32(1 - 1e-5)


def test_actions_outside_of_the_space_are_refused(root):
    made = episodes(3)
    made[1].actions[1, 0] = 1.5
    create(made, box(3))
    with pytest.raises(UserError, match=r"1 of 9 actions.*transition 4"):
        read_minari(ID)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_the_fingerprint_does_not_depend_on_the_format(flat, data_format):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    create(flat, box(3), "mine/other-v0", data_format=data_format)
    one, other = read_minari(ID), read_minari("mine/other-v0")
    assert one.info.fingerprint == other.info.fingerprint
    assert (one.transitions.tensordict == other.transitions.tensordict).all()


def test_the_fingerprint_is_of_all_that_is_used(flat, hdf5):
    before = read_minari(ID).info.fingerprint
    seen = {before}
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        with hdf5() as file:
            values = file["episode_1"][name]
            values[0] = ~values[0] if values.dtype == bool else values[0] / 2
        seen.add(read_minari(ID).info.fingerprint)
    assert len(seen) == 6


def test_goal_observations_keep_the_position_in_the_stated_order(root):
    widths = {"desired_goal": 2, "observation": 4, "achieved_goal": 2}
    made = episodes(*widths.items())
    create(made, spaces.Dict({key: box(width) for key, width in widths.items()}))
    first = {key: values[0].astype(np.float32) for key, values in made[0].observations.items()}
    found = read_minari(ID).transitions.observation[0].numpy()
    assert np.array_equal(found, np.concatenate([first[key] for key in GOALS]))
    one_goal = EnvSpec("Maze-v0", {}, 6, (-1.0, -1.0), (1.0, 1.0), 7, GOALS[:2])
    found = read_minari(ID, spec=one_goal).transitions.observation[0].numpy()
    assert np.array_equal(found, np.concatenate([first[key] for key in GOALS[:2]]))


def test_other_dicts_are_joined_in_sorted_order(root):
    made = episodes(("b", 2), ("a", 3))
    create(made, spaces.Dict(b=box(2), a=box(3)))
    found = read_minari(ID).transitions.next_observation[-1].numpy()
    last = made[-1].observations
    expected = np.concatenate([last["a"][-1], last["b"][-1]]).astype(np.float32)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("env_id", ["PointMaze_UMaze-v3", "pex_lightning/PointMaze-Medium-v0"])
def test_what_an_environment_gave_is_read_as_it_gives_it(root, env_id):
    """A recording of gymnasium's environment, read with the spec that the policy acts by."""
    plain = gymnasium.make(make_env(env_id).unwrapped.spec.id)
    seen = make_env(env_id)
    buffers, expected = [], []
    for seed in range(2):
        raw, ours = [plain.reset(seed=seed)[0]], [seen.reset(seed=seed)[0]]
        actions = [plain.action_space.sample() for _ in range(4)]
        for action in actions:
            raw.append(plain.step(action)[0])
            ours.append(seen.step(action.astype(np.float32))[0])
        dicts = isinstance(raw[0], dict)
        values = {key: np.array([row[key] for row in raw]) for key in raw[0]} if dicts else raw
        flags = [False] * 4
        buffers.append(EpisodeBuffer(None, None, None, values, actions, [0.0] * 4, flags, flags))
        expected.append(np.array(ours))
    minari.create_dataset_from_buffers(ID, buffers, env=plain)
    found_id, kwargs = minari_environment(ID)
    assert (found_id, kwargs) == (env_id, {})
    data = read_minari(ID, spec=env_spec(found_id, kwargs))
    found = data.transitions.next_observation.numpy()
    assert found == pytest.approx(np.concatenate([rows[1:] for rows in expected]), abs=1e-6)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Dict(a=spaces.Dict(b=box(2))), ["(a)", "Dict"]),
        (spaces.Tuple((box(2),)), ["Tuple"]),
        (spaces.Discrete(3), ["Discrete"]),
        (spaces.Dict(a=box(2), b=spaces.Text(4)), ["(b)", "Text"]),
        (box(40, 40, 3, dtype=np.uint8), ["images", "[40, 40, 3]"]),
    ],
)
def test_observations_that_are_not_numbers_are_refused_by_name(root, flat, space, words):
    alter(root, observation_space=minari.serialization.serialize_space(space))
    with pytest.raises(UserError) as error:
        read_minari(ID)
    for word in (*words, ID, "observations"):
        assert word in str(error.value)


@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.MultiDiscrete([2, 2])])
def test_discrete_actions_are_refused_by_name(root, flat, space):
    alter(root, action_space=minari.serialization.serialize_space(space))
    with pytest.raises(UserError, match=f"actions.*{type(space).__name__}"):
        read_minari(ID)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"obs_dim": 4}, ["observations have 3", "Some-v0", "4"]),
        ({"action_low": (-1.0,), "action_high": (1.0,)}, ["actions have 2", "Some-v0"]),
        ({"obs_keys": ("a", "b")}, ["flat", "a, b", "--data.env"]),
    ],
)
def test_data_of_another_environment_are_refused(flat, change, words):
    spec = EnvSpec(**{**SPEC.__dict__, **change})
    with pytest.raises(UserError) as error:
        read_minari(ID, spec=spec)
    for word in words:
        assert word in str(error.value)


def _shorten(file: h5py.File) -> None:
    del file["episode_1/rewards"]
    file["episode_1/rewards"] = np.zeros(3)


def _one_observation_less(file: h5py.File) -> None:
    del file["episode_1/observations"]
    file["episode_1/observations"] = np.zeros((4, 3))


def _nan(file: h5py.File) -> None:
    file["episode_1/observations"][4, 0] = np.nan


def _remove(file: h5py.File) -> None:
    del file["episode_1/actions"]


def _remove_episode(file: h5py.File) -> None:
    del file["episode_1"]


def _link(file: h5py.File) -> None:
    del file["episode_1/observations"]
    file["episode_1/observations"] = h5py.ExternalLink("/etc/other.hdf5", "observations")


def _two(file: h5py.File) -> None:
    del file["episode_1/terminations"]
    file["episode_1/terminations"] = np.array([0, 2, 0, 0])


@pytest.mark.parametrize(
    "damage", [_shorten, _one_observation_less, _nan, _remove, _remove_episode, _link, _two]
)
def test_a_damaged_episode_is_named(hdf5, damage):
    with hdf5() as file:
        damage(file)
    with pytest.raises(UserError, match=f"minari:{ID}, episode 1"):
        read_minari(ID)


def test_a_file_cut_short_is_a_user_error(root, flat):
    path = root / ID / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"main_data\.hdf5"):
        read_minari(ID)


@pytest.mark.parametrize("steps", [8, 10, 0, 10**18, -1, "nine"])
def test_a_wrong_number_of_steps_is_refused(root, flat, steps):
    alter(root, total_steps=steps)
    with pytest.raises(UserError, match=ID):
        read_minari(ID)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"total_steps": 9}', "[" * 100_000])
def test_damaged_metadata_are_a_user_error(root, flat, text):
    (root / ID / "data" / "metadata.json").write_text(text)
    with pytest.raises(UserError, match=r"metadata\.json"):
        read_minari(ID)


@pytest.mark.parametrize(
    "dataset_id", ["../outside-v0", "a/../../b-v0", "/etc/passwd-v0", "x", "", "a//b-v0", "a\n-v0"]
)
def test_ids_cannot_leave_the_folder(dataset_id):
    for function in (ensure_minari, read_minari, minari_environment, minari_notes):
        with pytest.raises(UserError, match="not an id"):
            function(dataset_id)


def test_without_a_network_the_error_shows_the_ways_out(root, flat, capfd):
    with pytest.raises(UserError) as error:
        ensure_minari("mine/some/date-v0")
    message = str(error.value)
    for word in (
        "minari:mine/some/date-v0",
        "hf://nobody",
        str(root / "mine/some/date-v0"),
        "minari download",
        "MINARI_DATASETS_PATH",
        "--data.path",
        ID,
    ):
        assert word in message
    assert capfd.readouterr().out == ""


def test_a_download_that_broke_off_is_not_taken_for_a_dataset(root, flat):
    (root / ID / "data" / "main_data.hdf5").unlink()
    with pytest.raises(UserError, match="could not be fetched"):
        read_minari(ID)


def test_a_dataset_here_needs_no_minari(flat, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert len(read_minari(ID).transitions) == 9
    with pytest.raises(UserError, match="pip install"):
        ensure_minari("mine/none-v0")


CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]


def test_without_spaces_those_of_the_environment_are_taken(root, flat):
    expected = read_minari(ID, spec=SPEC)
    alter(root, observation_space=None, action_space=None)
    found = read_minari(ID, spec=SPEC)
    assert found.info == expected.info
    assert (found.transitions.tensordict == expected.transitions.tensordict).all()


@pytest.mark.parametrize("key", ["observation_space", "action_space"])
def test_without_spaces_and_without_an_environment_the_way_out_is_told(root, flat, key):
    alter(root, **{key: None})
    with pytest.raises(
        UserError, match=rf"has no {key}\. Write the dataset again with .*--data.env"
    ):
        read_minari(ID)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (EnvSpec("Some-v0", {}, 4, (-1.0,) * 2, (1.0,) * 2, 7), r"shape \[3\], expected \[4\]"),
        (EnvSpec("Some-v0", {}, 3, (-1.0,) * 3, (1.0,) * 3, 7), r"shape \[2\], expected \[3\]"),
        (EnvSpec("Some-v0", {}, 3, (-0.1,) * 2, (0.1,) * 2, 7), "actions"),
        (EnvSpec("Some-v0", {}, 3, (-1.0,) * 2, (1.0,) * 2, 7, GOALS), "has no observation_space"),
    ],
)
def test_without_spaces_the_arrays_have_to_fit_the_environment(root, flat, spec, words):
    alter(root, observation_space=None, action_space=None)
    with pytest.raises(UserError, match=words):
        read_minari(ID, spec=spec)


def test_without_spaces_minari_is_not_asked_because_it_would_make_the_environment(root, flat):
    alter(root, observation_space=None, data_format="arrow")
    with pytest.raises(UserError, match="has no observation_space"):
        read_minari(ID, spec=SPEC)


def test_the_recording_environment_is_recovered_with_what_differs(root, flat):
    kwargs = {
        "maze_map": CORRIDOR,
        "reward_type": "sparse",
        "continuing_task": True,
        "render_mode": "rgb_array",
    }
    spec = recorded_in("PointMaze_UMaze-v3", kwargs=kwargs, max_episode_steps=123)
    alter(root, env_spec=spec)
    env_id, found = minari_environment(ID)
    assert env_id == "PointMaze_UMaze-v3"
    assert found == {"maze_map": CORRIDOR, "continuing_task": True, "max_episode_steps": 123}
    assert env_spec(env_id, found).max_episode_steps == 123


def test_the_registered_time_limit_is_left_out(root, flat):
    alter(root, env_spec=recorded_in("HalfCheetah-v5", max_episode_steps=1000))
    assert minari_environment(ID) == ("HalfCheetah-v5", {})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, ["does not say"]),
        (recorded_in("os:Evil-v0"), ["os:Evil-v0", "imported"]),
        (recorded_in("NoSuchEnv-v7"), ["NoSuchEnv-v7", "not installed"]),
        (recorded_in("HalfCheetah-v3"), ["HalfCheetah-v3", "cannot be made", "HalfCheetah-v5"]),
        (
            recorded_in(
                "HalfCheetah-v5",
                additional_wrappers=[{"name": "W", "entry_point": "evil:W", "kwargs": None}],
            ),
            ["evil:W", "HalfCheetah-v5"],
        ),
        (recorded_in("HalfCheetah-v5", kwargs={"xml_file": "/x/y.xml"}), ["xml_file", "/x/y.xml"]),
        (recorded_in("HalfCheetah-v5", kwargs={"no_such": 1}), ["no_such"]),
        (recorded_in("HalfCheetah-v5", kwargs=[1]), ["[1]"]),
    ],
)
def test_an_environment_that_cannot_be_had_is_named_with_the_way_out(root, flat, spec, words):
    alter(root, env_spec=spec)
    with pytest.raises(UserError) as error:
        minari_environment(ID)
    for word in (*words, ID):
        assert word in str(error.value)
    assert "--data.env" in str(error.value) or "expected a mapping" in str(error.value)


def test_nothing_that_a_dataset_names_is_imported(root, flat, tmp_path, monkeypatch):
    """Its entry points would leave a trace."""
    trace = tmp_path / "trace"
    (tmp_path / "evil_module.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Env: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    wrapper = {"name": "W", "entry_point": "evil_module:Env", "kwargs": {}}
    for env_id in ("evil_module:Env-v0", "Env-v0", "HalfCheetah-v5"):
        for wrappers in ([], [wrapper]):
            spec = recorded_in(env_id, entry_point="evil_module:Env", additional_wrappers=wrappers)
            alter(root, env_spec=spec, eval_env_spec=spec)
            read_minari(ID)
            minari_notes(ID)
            if wrappers or env_id != "HalfCheetah-v5":
                with pytest.raises(UserError):
                    minari_environment(ID)
            else:
                assert minari_environment(ID) == ("HalfCheetah-v5", {})
    # Minari would make the environment to learn the spaces that are missing.
    alter(root, observation_space=None)
    with pytest.raises(UserError, match="observation_space"):
        read_minari(ID)
    assert not trace.exists()


def test_notes_on_the_published_datasets_need_no_network():
    antmaze = minari_notes("D4RL/antmaze/umaze-v1")
    assert [word for word in ("not comparable", "296", "304") if word in " ".join(antmaze)] == [
        "not comparable",
        "296",
        "304",
    ]
    mujoco = minari_notes("mujoco/hopper/medium-v0")
    assert len(mujoco) == 1
    assert "version 5" in mujoco[0]
    assert "D4RL" in mujoco[0]


def test_notes_follow_what_the_dataset_says(root, flat):
    one = recorded_in("AntMaze_UMaze-v4", kwargs={"maze_map": CORRIDOR})
    other = recorded_in("AntMaze_UMaze-v4", kwargs={"maze_map": [[1]], "continuing_task": False})
    alter(root, env_spec=one, eval_env_spec=other)
    text = " ".join(minari_notes(ID))
    assert "another maze" in text
    assert "AntMaze_UMaze-v4" in text
    assert "continuing_task" in text
    alter(root, env_spec=other, eval_env_spec=other)
    text = " ".join(minari_notes(ID))
    assert "maze" not in text
    assert "not comparable" in text


def test_every_note_is_said_once(root, flat):
    alter(root, env_spec=recorded_in("Hopper-v5"))
    notes = minari_notes(ID)
    assert len(set(notes)) == len(notes)
    assert all(note.endswith(".") for note in notes)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
def test_memory_is_little_more_than_the_transitions(root):
    rows = 200_000
    made = [
        EpisodeBuffer(
            observations={"achieved_goal": np.ones((501, 2)), "observation": np.ones((501, 27))},
            actions=np.zeros((500, 8), np.float32),
            rewards=np.zeros(500),
            terminations=np.zeros(500, bool),
            truncations=np.arange(500) == 499,
        )
    ] * (rows // 500)
    space = spaces.Dict(achieved_goal=box(2), observation=box(27))
    create(made, space, actions=spaces.Box(-1, 1, (8,), np.float32))
    before = _peak(reset=True)
    data = read_minari(ID)
    added = _peak() - before
    tensors = data.transitions.tensordict.values(True, True)
    size = sum(value.numel() * value.element_size() for value in tensors)
    # 25 MiB: buffers, and libraries that are loaded by the first call.
    assert added < 1.1 * size + 25 * 2**20


def _peak(reset: bool = False) -> int:
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
