"""Recording of HalfCheetah episodes: a policy of medium skill samples its actions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pex_lightning.envs.make import make_env
from pex_lightning.recording.episode import Columns
from pex_lightning.recording.perceptron import Perceptron, Vector
from pex_lightning.recording.recipes import HalfCheetahRecipe

RUNNER_FILE = Path(__file__).with_name("halfcheetah_medium.safetensors")

_LOG_STD_MIN, _LOG_STD_MAX = -20.0, 2.0


class Runner:
    """The policy that runs, evaluated without torch; `recipes/halfcheetah_medium.py` trains it.

    Its weights are the `net` of a `pex_lightning.nn.squashed.SquashedGaussianPolicy`.

    Args:
        path: The safetensors file of the weights.
    """

    def __init__(self, path: Path = RUNNER_FILE) -> None:
        self._net = Perceptron(path)

    def sample(self, observation: Vector, rng: np.random.Generator) -> Vector:
        """Draw the action `[6]` for an observation `[17]`."""
        out = self._net(observation)
        mean, log_std = out[: len(out) // 2], out[len(out) // 2 :]
        std = np.exp(log_std.clip(_LOG_STD_MIN, _LOG_STD_MAX))
        noise = rng.standard_normal(len(mean), dtype=np.float32)
        return np.asarray(np.tanh(mean + std * noise), np.float32)


class HalfCheetahRecorder:
    """Records episodes of one recipe.

    Args:
        recipe: The recipe.
        runner: The policy; by default the one included in the package.
    """

    def __init__(self, recipe: HalfCheetahRecipe, runner: Runner | None = None) -> None:
        self.env = make_env(recipe.env_id)
        self._runner = Runner() if runner is None else runner

    def record(self, rng: np.random.Generator, rows: int) -> Columns:
        """Record the first `rows` rows of an episode; `rng` is the only source of randomness.

        Returns:
            `observations` `[rows, 17]`, `actions` `[rows, 6]` and the environment's `rewards`
            `[rows]`, float32.
        """
        observations = np.zeros((rows, 17), np.float32)
        actions = np.zeros((rows, 6), np.float32)
        rewards = np.zeros(rows, np.float32)
        observation, _ = self.env.reset(seed=int(rng.integers(2**31)))
        for row in range(rows):
            observations[row] = observation
            actions[row] = self._runner.sample(observation, rng)
            observation, rewards[row], *_ = self.env.step(actions[row])
        return {"observations": observations, "actions": actions, "rewards": rewards}

    def close(self) -> None:
        """Free the simulation."""
        self.env.close()
