"""A user's own data and environment, from the command line, and real human demonstrations."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from pex_lightning.datasets.arrays import write_d4rl
from pex_lightning.envs.make import make_env

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT.parent / "shared" / "data" / "door-human.hdf5"
TWO_EPISODES = ("--evaluation.episodes=2", "--evaluation.num_envs=1")


class Arm(gymnasium.Env[Any, Any]):
    """Dict observations in float64 without bounds, and actions with unequal bounds."""

    def __init__(self) -> None:
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "velocity": box(-np.inf, np.inf, (2,), np.float64),
                "angle": box(-np.inf, np.inf, (1,), np.float64),
            }
        )
        self.action_space = box(np.array([-1.0, 0.0]), np.array([3.0, 0.5]), dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.velocity, self.angle = np.zeros(2), self.np_random.uniform(-1.0, 1.0, 1)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action, np.float64)), action
        self.velocity = 0.9 * self.velocity + action
        self.angle = self.angle + 0.1 * self.velocity[:1]
        return self._observe(), -float(abs(self.angle[0])), False, False, {}

    def _observe(self) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity, "angle": self.angle}


@pytest.fixture(scope="module", autouse=True)
def _arm() -> Any:
    gymnasium.register("OwnArm-v0", entry_point=Arm, max_episode_steps=20)
    yield
    gymnasium.registry.pop("OwnArm-v0")


def record(env_id: str, path: Path, rows: int = 300) -> None:
    """What a user would do: step the environment as the package sees it, and write the rows."""
    env = make_env(env_id)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    columns: dict[str, list[Any]] = {key: [] for key in ("o", "a", "r", "d", "t")}
    for _ in range(rows):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        for key, value in zip(
            "oardt", (observation, action, reward, terminated, truncated), strict=True
        ):
            columns[key].append(value)
        observation = env.reset()[0] if terminated or truncated else following
    env.close()
    write_d4rl(
        path,
        observations=columns["o"],
        actions=columns["a"],
        rewards=columns["r"],
        terminals=columns["d"],
        timeouts=columns["t"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "OwnArm-v0"])
def test_any_box_environment_runs_from_logs_to_scores(
    env_id: str, tmp_path: Path, tiny: Callable[..., list[str]], command: Any
) -> None:
    record(env_id, tmp_path / "own-logs.hdf5")
    settings = [f"--data.path={tmp_path / 'own-logs.hdf5'}", f"--data.env={env_id}"]
    settings += ["--data.reward_transform=identity", "--evaluation.num_envs=1"]
    outcome = command(*tiny(tmp_path, *settings))
    assert outcome.code == 0, outcome.err
    checkpoint = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    tested = command("test", f"--ckpt_path={checkpoint}", *TWO_EPISODES)
    result = json.loads(tested.out.splitlines()[-1])
    assert (result["env"], result["dataset"], result["episodes"]) == (env_id, "own-logs", 2)
    # There is no reference for it, so there is no score.
    assert result["score"] is None


@pytest.mark.slow
def test_discrete_actions_are_refused_by_name(
    tmp_path: Path, tiny: Callable[..., list[str]], command: Any, refused: Callable[..., None]
) -> None:
    record("Pendulum-v1", tmp_path / "logs.hdf5")
    settings = [f"--data.path={tmp_path / 'logs.hdf5'}", "--data.env=CartPole-v1"]
    refused(command(*tiny(tmp_path, *settings)), "CartPole-v1", "discrete")


@pytest.mark.slow
def test_every_log_and_score_says_what_it_was_trained_on(finished: Path, command: Any) -> None:
    for stage in ("offline", "online"):
        with (finished / stage / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["dataset"] for row in rows} == {"made:pointmaze-medium"}
        assert len({row["fingerprint"] for row in rows}) == 1
        assert {row["env"] for row in rows} == {"pex_lightning/PointMaze-Medium-v0"}
        assert {row["d4rl_score"] for row in rows} == {"false"}
    checkpoint = finished / "online" / "checkpoints" / "last.ckpt"
    tested = command("test", f"--ckpt_path={checkpoint}", *TWO_EPISODES)
    result = json.loads(tested.out.splitlines()[-1])
    assert result["dataset_fingerprint"] == rows[0]["fingerprint"]
    assert (result["dataset"], result["dataset_origin"]) == ("made:pointmaze-medium", "made")
    assert result["d4rl_score"] is False


@pytest.mark.slow
@pytest.mark.skipif(not DOOR.exists(), reason="needs shared/data/door-human.hdf5")
def test_human_demonstrations_of_the_door_train_and_evaluate(
    tmp_path: Path, tiny: Callable[..., list[str]], command: Any
) -> None:
    config = "conf/d4rl/door-human-v1.yaml"
    outcome = command(
        *tiny(tmp_path, f"--data.path={DOOR}", "--evaluation.num_envs=1", config=config)
    )
    assert outcome.code == 0, outcome.err
    assert "Dataset door-human: 6,704 transitions of 6,729 rows, 25 episodes" in outcome.err
    checkpoint = tmp_path / "tiny" / "online" / "checkpoints" / "last.ckpt"
    tested = command("test", f"--ckpt_path={checkpoint}", *TWO_EPISODES)
    result = json.loads(tested.out.splitlines()[-1])
    assert result["env"] == "pex_lightning/AdroitDoor-v1"
    assert result["success_rate"] == 0.0
    # Forty updates do not open a door: the score is near the random policy's.
    assert -10 < result["score"] < 10
    # The file was the user's, so nothing is claimed of it.
    assert (result["dataset_origin"], result["d4rl_score"]) == ("file", None)


@pytest.mark.slow
def test_what_a_run_collected_is_learnt_from_again_through_minari(
    tmp_path: Path,
    tiny: Callable[..., list[str]],
    finished: Path,
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    checkpoint = finished / "online" / "checkpoints" / "last.ckpt"
    name = "own/pointmaze/pex-v0"
    exported = command("data", "export", f"--ckpt_path={checkpoint}", f"--minari={name}")
    assert exported.code == 0, exported.err
    # No environment is given: it is the one of the dataset.
    settings = ["--data.env=null", f"--data.path=minari:{name}"]
    outcome = command(*tiny(tmp_path / "runs", *settings))
    assert outcome.code == 0, outcome.err
    assert f"Dataset minari:{name}: 90 transitions of 90 rows" in outcome.err
    assert "Scores on Minari's data are not comparable with D4RL's" in outcome.err
    last = tmp_path / "runs" / "tiny" / "online" / "checkpoints" / "last.ckpt"
    tested = command("test", f"--ckpt_path={last}", *TWO_EPISODES)
    result = json.loads(tested.out.splitlines()[-1])
    assert result["env"] == "pex_lightning/PointMaze-Medium-v0"
    assert (result["dataset_origin"], result["d4rl_score"]) == ("minari", False)
