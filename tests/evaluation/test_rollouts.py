import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from pex_lightning.errors import UserError
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.evaluation.scores import ScoreReference
from pex_lightning.processes import WorkerTraceback

TOY = "PexToy-v0"


def lookahead(observation: torch.Tensor) -> torch.Tensor:
    """Deterministic, and different in every row and step."""
    return torch.cos(observation[:, :1] * 7 + observation[:, 1:])


def noise(observation: torch.Tensor) -> torch.Tensor:
    return torch.rand(len(observation), 1)


def one_after_another(
    episodes: int, seed: int, **kwargs: object
) -> tuple[list[float], list[int], list[bool]]:
    env = gymnasium.make(TOY, **kwargs)
    returns, lengths, successes = [], [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, steps, success, over = 0.0, 0, False, False
        while not over:
            action = lookahead(torch.tensor(observation)[None])[0].numpy()
            observation, reward, terminated, truncated, info = env.step(action)
            total, steps = total + float(reward), steps + 1
            success |= bool(info.get("success", False))
            over = terminated or truncated
        returns.append(total)
        lengths.append(steps)
        successes.append(success)
    return returns, lengths, successes


@pytest.mark.parametrize(
    ("num_envs", "num_workers"), [(1, 1), (4, 1), (4, 2), (5, 5), (13, 1), (99, 2)]
)
def test_equals_a_plain_loop_whatever_the_number_of_environments(
    num_envs: int, num_workers: int
) -> None:
    returns, lengths, successes = one_after_another(13, seed=5, reports_success=True)
    assert len(set(lengths)) > 5
    assert 0 < sum(successes) < 13
    with Evaluator(
        TOY,
        {"reports_success": True},
        episodes=13,
        num_envs=num_envs,
        num_workers=num_workers,
        seed=5,
    ) as evaluator:
        for _ in range(2):
            result = evaluator.run(lookahead)
            np.testing.assert_allclose(result.returns, returns, rtol=1e-6)
            assert result.lengths.tolist() == lengths
            assert result.successes is not None
            assert result.successes.tolist() == successes


def test_four_environments_give_exactly_what_one_gives() -> None:
    results = []
    for num_envs in (1, 4):
        with Evaluator(TOY, episodes=9, num_envs=num_envs, num_workers=1) as evaluator:
            results.append(evaluator.run(lookahead))
    assert results[0].returns.tolist() == results[1].returns.tolist()


def test_success_is_unknown_where_the_environment_does_not_say() -> None:
    # The toy's reset info claims success, which says nothing about the episode.
    with Evaluator(TOY, episodes=3, num_workers=1) as evaluator:
        result = evaluator.run(lookahead)
    assert result.successes is None
    assert result.success_rate is None


def test_result_statistics() -> None:
    result = EvaluationResult(
        returns=np.array([1.0, 3.0]), lengths=np.array([5, 6]), successes=np.array([True, False])
    )
    assert result.episodes == 2
    assert (result.return_mean, result.return_std, result.success_rate) == (2.0, 1.0, 0.5)
    assert result.score(ScoreReference(0, 4)) == 50


def test_random_stream_of_training_is_not_touched() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with Evaluator(TOY, episodes=4, num_workers=1) as evaluator:
        first = evaluator.run(noise)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(5)
        again = evaluator.run(noise)
    assert first.returns.tolist() == again.returns.tolist()
    with Evaluator(TOY, episodes=4, num_workers=2) as evaluator:
        assert evaluator.run(noise).returns.tolist() == first.returns.tolist()
    with Evaluator(TOY, episodes=4, num_workers=1, seed=1) as evaluator:
        assert evaluator.run(noise).returns.tolist() != first.returns.tolist()


def test_random_stream_and_threads_are_put_back_after_a_failure() -> None:
    def broken(observation: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        raise ZeroDivisionError

    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with Evaluator(TOY, episodes=4, num_envs=2, num_workers=1) as evaluator:
        with pytest.raises(ZeroDivisionError):
            evaluator.run(broken)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == threads
        assert evaluator.run(lookahead).episodes == 4


def test_policy_runs_without_gradients_on_float32_rows() -> None:
    layer = torch.nn.Linear(2, 1)
    seen: list[torch.Tensor] = []

    def policy(observation: torch.Tensor) -> torch.Tensor:
        seen.append(observation)
        action = layer(observation)
        assert not action.requires_grad
        return action.double()

    with Evaluator(TOY, episodes=3, num_envs=2, num_workers=1) as evaluator:
        evaluator.run(policy)
    assert {(row.dtype, row.shape[1]) for row in seen} == {(torch.float32, 2)}
    # Kept observations are the policy's own: the first is still that of step 0.
    assert (seen[0][:, 1] == 0).all()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_policy_gets_rows_of_running_episodes_only(num_workers: int) -> None:
    seen: list[torch.Tensor] = []

    def policy(observation: torch.Tensor) -> torch.Tensor:
        seen.append(observation)
        return lookahead(observation)

    with Evaluator(TOY, episodes=7, num_envs=4, num_workers=num_workers) as evaluator:
        result = evaluator.run(policy)
    assert sum(map(len, seen)) == result.lengths.sum()
    assert max(map(len, seen)) == 4


@pytest.mark.parametrize(("num_workers", "failing"), [(1, 2), (2, 2), (2, 3)])
def test_an_environment_that_raises_is_named(num_workers: int, failing: int) -> None:
    with Evaluator(
        TOY,
        {"raises_at": 10 + failing, "length": 3},
        episodes=4,
        num_envs=4,
        num_workers=num_workers,
        seed=10,
    ) as evaluator:
        with pytest.raises(UserError) as caught:
            evaluator.run(lookahead)
        message = str(caught.value)
        names = (f"environment {failing}", TOY, "step 2", f"seed {10 + failing}")
        for part in (*names, "ValueError: the toy broke"):
            assert part in message
        cause = caught.value.__cause__
        # Every second environment is this process's own, or all of them.
        if failing % num_workers == 0:
            assert isinstance(cause, ValueError)
        else:
            assert isinstance(cause, WorkerTraceback)
            assert "toy_env.py" in str(cause)
        # The failure is the episode's: the evaluator starts afresh and meets it again.
        with pytest.raises(UserError, match="the toy broke"):
            evaluator.run(lookahead)


def test_a_worker_that_dies_is_named() -> None:
    with (
        Evaluator(TOY, {"dies_at": 1}, episodes=4, num_envs=4, num_workers=2) as evaluator,
        pytest.raises(UserError, match=r"process of environments 1, 3 ended with exit code -9"),
    ):
        evaluator.run(lookahead)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_environments_that_cannot_be_made_are_refused(num_workers: int) -> None:
    evaluator = Evaluator(TOY, {"lenght": 3}, episodes=2, num_envs=2, num_workers=num_workers)
    with pytest.raises(UserError, match="lenght"):
        evaluator.run(lookahead)


def test_bad_actions_are_refused() -> None:
    with Evaluator(TOY, episodes=2, num_envs=2, num_workers=1) as evaluator:
        with pytest.raises(UserError, match=r"shape \[2, 2\].*expected \[2, 1\]"):
            evaluator.run(lambda observation: observation)
        with pytest.raises(UserError, match="NaN or infinite actions in 2 of 2 rows"):
            evaluator.run(lambda observation: observation[:, :1] / 0 * 0)


@pytest.mark.parametrize("name", ["episodes", "num_envs", "num_workers", "seed"])
def test_impossible_numbers_are_refused(name: str) -> None:
    numbers = {"episodes": 2, name: -1}
    with pytest.raises(UserError, match=rf"evaluation\.{name} is -1"):
        Evaluator(TOY, **numbers)


def test_workers_do_not_load_torch_and_end_with_close() -> None:
    evaluator = Evaluator("PexTorchWatcher-v0", episodes=3, num_envs=3, num_workers=3)
    result = evaluator.run(lookahead)
    # This process, which has torch, steps a share as well.
    assert (result.returns == [result.lengths[0], 0, 0]).all()
    assert evaluator._pool is not None
    processes = [worker.process for worker in evaluator._pool._workers]
    assert [process.is_alive() for process in processes] == [True, True]
    evaluator.close()
    assert [process.exitcode for process in processes] == [0, 0]
    evaluator.close()


SCRIPT = """
    import sys, time
    sys.path.insert(0, {folder!r})
    import gymnasium, torch
    from pex_lightning.evaluation.rollouts import Evaluator

    gymnasium.register("PexToy-v0", entry_point="toy_env:ToyEnv", max_episode_steps=10**6)
    started = False

    def policy(observation):
        global started
        if not started:
            print(*[w.process.pid for w in evaluator._pool._workers], flush=True)
            started = True
        if {forever!r}:
            time.sleep(0.001)
        return observation[:, :1]

    if __name__ == "__main__":
        kwargs = dict(length=10**6) if {forever!r} else {{}}
        evaluator = Evaluator("PexToy-v0", kwargs, episodes=3, num_workers=3)
        evaluator.run(policy)
"""


def start_script(folder: Path, *, forever: bool) -> subprocess.Popen[str]:
    script = folder / "script.py"
    text = SCRIPT.format(folder=str(Path(__file__).parent), forever=forever)
    script.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ends(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", ["exit", "ctrl_c", "kill"])
def test_workers_end_with_their_parent(how: str, tmp_path: Path) -> None:
    process = start_script(tmp_path, forever=how != "exit")
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    if how == "ctrl_c":
        # As a terminal does it: to the whole group, workers included.
        os.killpg(process.pid, signal.SIGINT)
    elif how == "kill":
        process.kill()
    _, errors = process.communicate(timeout=20)
    assert all(ends(pid) for pid in workers)
    if how == "ctrl_c":
        assert errors.count("Traceback") == 1
        assert "KeyboardInterrupt" in errors
    else:
        assert errors == ""
    assert process.returncode == {"exit": 0, "ctrl_c": -signal.SIGINT, "kill": -signal.SIGKILL}[how]
