"""The walker's file, and that its evaluation without torch is the network that was learnt."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.recording.walker import WALKER_FILE, Walker


def _observations(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(count, 29)).astype(np.float32)
    observations[:, 27:] /= np.linalg.norm(observations[:, 27:], axis=1, keepdims=True)
    return observations


def test_the_file_is_small():
    assert 0 < WALKER_FILE.stat().st_size <= 500_000


def test_it_is_the_policy_that_was_learnt():
    policy = GaussianPolicy(29, [-1.0] * 8, [1.0] * 8, (256, 256))
    arrays = load_file(WALKER_FILE)
    policy.net.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
    observations = _observations(50)
    with torch.no_grad():
        expected = policy.mode(torch.from_numpy(observations)).numpy()
    walker = Walker()
    found = np.stack([walker(observation) for observation in observations])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found).max() > 0.5


def test_other_depths_are_evaluated_too(tmp_path):
    weight = np.eye(8, 29, dtype=np.float32)
    bias = np.full(8, 0.5, np.float32)
    save_file({"layers.0.weight": weight, "layers.0.bias": bias}, tmp_path / "one")
    observation = _observations(1)[0]
    np.testing.assert_allclose(
        Walker(tmp_path / "one")(observation), np.tanh(observation[:8] + 0.5), rtol=1e-5
    )


@pytest.mark.parametrize("threads", ["1", "4"])
def test_rounding_does_not_depend_on_threads(threads):
    # In a process of its own: the number of threads is read when NumPy is loaded.
    script = (
        "import numpy as np; from pex_lightning.recording.walker import Walker; "
        "o = np.sin(np.arange(29, dtype=np.float32)); print(Walker()(o).tobytes().hex())"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=dict.fromkeys(names, threads),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = Walker()(np.sin(np.arange(29, dtype=np.float32)))
    assert found.stdout.strip() == expected.tobytes().hex()
