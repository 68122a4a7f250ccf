"""HalfCheetah's dataset: a policy of medium skill, its sampled actions, D4RL's layout."""

import contextlib
import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from pex_lightning.envs.make import make_env
from pex_lightning.nn.squashed import SquashedGaussianPolicy
from pex_lightning.recording.halfcheetah import RUNNER_FILE, HalfCheetahRecorder, Runner
from pex_lightning.recording.make import RECIPES, make_dataset
from pex_lightning.recording.recipes import HalfCheetahRecipe

NAME = "halfcheetah-medium"
RECIPE = RECIPES[NAME]
assert isinstance(RECIPE, HalfCheetahRecipe)
ROWS = 3_300
EXPERT = 12_135.0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "data.hdf5"
    make_dataset(NAME, path, rows=ROWS, seed=3, workers=1)
    return path


@pytest.fixture(scope="module")
def data(made) -> dict[str, np.ndarray]:
    with h5py.File(made) as file:
        return {key: column[:] for key, column in file.items()}


def test_layout_is_d4rls(made, data):
    shapes = {key: (column.shape, column.dtype) for key, column in data.items()}
    assert shapes == {
        "observations": ((ROWS, 17), np.float32),
        "actions": ((ROWS, 6), np.float32),
        "rewards": ((ROWS,), np.float32),
        "terminals": ((ROWS,), np.bool_),
        "timeouts": ((ROWS,), np.bool_),
    }
    with h5py.File(made) as file:
        found = dict(file.attrs)
    assert found["dataset"] == NAME
    assert found["env_id"] == "HalfCheetah-v4"
    assert (found["rows"], found["seed"]) == (ROWS, 3)
    assert "target_goal" not in found


def test_episodes_have_a_thousand_rows_and_end_in_timeouts_alone(data):
    np.testing.assert_array_equal(np.flatnonzero(data["timeouts"]), [999, 1999, 2999, ROWS - 1])
    assert not data["terminals"].any()
    starts = data["observations"][[0, 1000, 2000, 3000]]
    assert np.abs(starts).max() < 1.0
    assert len(np.unique(starts, axis=0)) == 4


def test_rows_are_what_the_environment_does(data):
    observations = data["observations"].astype(np.float64)
    with contextlib.closing(make_env(RECIPE.env_id)) as env:
        env.reset(seed=0)
        for row in range(0, 900, 29):
            # The first observation is the height: where the cheetah is along x is not recorded.
            env.unwrapped.set_state(np.append(0.0, observations[row, :8]), observations[row, 8:])
            after, reward, *_ = env.step(data["actions"][row])
            np.testing.assert_allclose(after, observations[row + 1], atol=5e-3)
            assert reward == pytest.approx(data["rewards"][row], abs=5e-3)


def test_it_runs_for_about_a_third_of_the_experts_return(data):
    returns = data["rewards"][:3000].reshape(3, 1000).sum(1)
    assert 0.28 * EXPERT < returns.mean() < 0.42 * EXPERT


def test_actions_are_samples_of_the_policy_that_was_learnt():
    policy = SquashedGaussianPolicy(17, [-1.0] * 6, [1.0] * 6, (256, 256))
    arrays = load_file(RUNNER_FILE)
    policy.net.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
    observations = np.random.default_rng(0).normal(size=(50, 17)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((50, 6), dtype=np.float32)
    with torch.no_grad():
        mean, log_std = policy.net(torch.from_numpy(observations)).chunk(2, dim=-1)
        expected = torch.tanh(mean + log_std.exp() * torch.from_numpy(noise)).numpy()
    runner, rng = Runner(), np.random.default_rng(1)
    found = np.stack([runner.sample(observation, rng) for observation in observations])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_seed_decides_the_rows_and_a_longer_dataset_begins_with_a_shorter_one(data):
    with contextlib.closing(HalfCheetahRecorder(RECIPE)) as recorder:
        again = recorder.record(np.random.default_rng((3, 0)), 20)
        other = recorder.record(np.random.default_rng((4, 0)), 20)
    for key, column in again.items():
        np.testing.assert_array_equal(column, data[key][:20])
    assert not np.array_equal(again["actions"], other["actions"])


@pytest.mark.slow
def test_the_number_of_processes_does_not_show(made, tmp_path):
    path = tmp_path / "again.hdf5"
    make_dataset(NAME, path, rows=ROWS, seed=3, workers=2)
    assert path.read_bytes() == made.read_bytes()


def test_another_policy_needs_another_version():
    # Cached files are found by the version.
    digest = hashlib.sha256(RUNNER_FILE.read_bytes()).hexdigest()
    assert (RECIPE.version, digest) == (
        1,
        "c9320454c41030fe4500b4b850d28d0ffd82825af9509f775a21e35b175f9218",
    )
    assert RUNNER_FILE.stat().st_size <= 350_000
