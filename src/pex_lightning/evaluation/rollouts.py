"""Evaluation of a policy over a fixed number of whole episodes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch

from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError, check_range
from pex_lightning.evaluation.env_group import Command, Orders
from pex_lightning.evaluation.env_pool import EnvPool
from pex_lightning.evaluation.scores import ScoreReference
from pex_lightning.policies.acting import ActingPolicy, PolicyFunction
from pex_lightning.seeding import own_random_stream

# A policy call takes about as long for 50 rows as for 20, so more environments are faster. 100 are
# faster by another tenth, but each takes 1 MB (AntMaze) to 12 MB (PointMaze).
_DEFAULT_NUM_ENVS = 50
# Each worker costs 80 MB, and 60 us per round for messages: more would not be faster.
_MOST_DEFAULT_WORKERS = 16


@dataclass(frozen=True)
class EvaluationResult:
    """The outcome of every episode, in the order of their seeds.

    Attributes:
        returns: [E] float64, undiscounted returns without reward transform.
        lengths: [E] int64, numbers of steps.
        successes: [E] bool, whether the environment reported `info["success"]` at any step; None
            if it never reports it.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None

    @property
    def episodes(self) -> int:
        """Number of episodes E."""
        return len(self.returns)

    @property
    def return_mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def return_std(self) -> float:
        """Standard deviation of the returns over episodes (divided by E)."""
        return float(self.returns.std())

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes, 0 to 1; None if the environment reports no success."""
        return None if self.successes is None else float(self.successes.mean())

    def score(self, reference: ScoreReference) -> float:
        """Normalised score of the mean return, in percent."""
        return reference.score(self.return_mean)


class Evaluator:
    """Runs policies in environments of its own, which are kept between evaluations.

    Episode i starts from `reset(seed=seed + i)`, whatever `num_envs`. Every episode that is started
    is finished and counted once, so short ones are not favoured. An evaluation draws from a random
    stream seeded with `seed` and restores torch's own afterwards, so evaluating a policy twice
    gives the same returns. They do not depend on `num_envs` if the policy draws no random numbers,
    up to the rounding of matrix products, which may depend on the number of rows.

    The first `run` starts the environments, in one process per core, this one included. Use the
    evaluator in a `with` block or call `close`.

    Args:
        env_id: gymnasium id.
        env_kwargs: Arguments of the environment.
        episodes: Number of episodes of an evaluation, E.
        num_envs: Environments that run at a time, and the most rows of the policy's input; by
            default 50, or E if that is less.
        seed: Seed of the first episode.
        num_workers: Processes to spread the environments over, this one included; by default one
            per core, 16 at most.

    Raises:
        UserError: A number is less than 1 (`seed`: less than 0).
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        episodes: int,
        num_envs: int | None = None,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        for name, value, least in (
            ("episodes", episodes, 1),
            ("num_envs", num_envs, 1),
            ("num_workers", num_workers, 1),
            ("seed", seed, 0),
        ):
            fits = value is None or value >= least
            check_range(f"evaluation.{name}", value, fits, f"at least {least}")
        self.episodes = episodes
        self.num_envs = min(episodes, num_envs or _DEFAULT_NUM_ENVS)
        self.seed = seed
        self._num_workers = num_workers
        self._factory = EnvFactory.of(env_id, env_kwargs)
        self._pool: EnvPool | None = None

    def run(
        self,
        policy: ActingPolicy | PolicyFunction,
        device: torch.device | str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> EvaluationResult:
        """Evaluate a policy, without gradients.

        The policy is called once per round with a row for every environment in an episode, in the
        order of the environments: at most `num_envs` rows, fewer when episodes have just ended or
        few are left. Each environment has a memory for the policy, zero when an episode begins.

        Args:
            policy: An acting policy, or a function of observations [n, obs_dim] float32 that gives
                actions [n, act_dim]. Actions are passed to the environment unchanged.
            device: Device of the observations given to the policy; by default the CPU.
            progress: Called after every round with the number of episodes that have ended.

        Raises:
            UserError: An environment failed, or the policy gave actions of a wrong shape, NaN or
                infinity.
        """
        device = torch.device(device or "cpu")
        if self._pool is None or self._pool.closed:
            self._pool = EnvPool(self._factory, self.num_envs, self._workers())
        with own_random_stream(self.seed, device), _one_thread(), torch.no_grad():
            evaluation = _Evaluation(self._pool, self.episodes, self.seed, policy, device)
            return evaluation.run(progress)

    def close(self) -> None:
        """End the environments; a second call does nothing, and `run` starts them again."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _workers(self) -> int:
        # Daemonic processes, such as DataLoader workers, may not start processes.
        if multiprocessing.current_process().daemon or not self._factory.can_be_sent():
            return 1
        return min(self.num_envs, self._num_workers or min(_cores(), _MOST_DEFAULT_WORKERS))


class _Evaluation:
    """One evaluation; assigns episodes to environments and records their outcomes."""

    def __init__(
        self,
        pool: EnvPool,
        episodes: int,
        seed: int,
        policy: ActingPolicy | PolicyFunction,
        device: torch.device,
    ) -> None:
        self.pool = pool
        self.policy = policy
        self.device = device
        memory_size = policy.memory_size if isinstance(policy, ActingPolicy) else 0
        self.memory = torch.zeros(pool.num_envs, memory_size, device=device)
        self.episodes = episodes
        self.seed = seed
        self.started = 0
        self.playing = np.full(pool.num_envs, -1)
        self.returns = np.zeros(episodes, dtype=np.float64)
        self.lengths = np.zeros(episodes, dtype=np.int64)
        self.successes = np.full(episodes, -1, dtype=np.int8)

    def run(self, progress: Callable[[int], None] | None) -> EvaluationResult:
        size = self.pool.num_envs
        actions = np.zeros((size, self.pool.sizes.action_dim), dtype=np.float32)
        observation: np.ndarray | None = None
        while True:
            stepped = self.playing >= 0
            if observation is not None and stepped.any():
                # Indexing copies the rows, so a policy may keep them when the next round begins.
                actions[stepped] = self._act(observation[stepped], stepped, actions.shape[1])
            orders = self._orders(stepped, actions)
            if not orders.commands.any():
                break
            frame = self.pool.advance(orders)
            observation = frame.observation
            played = self.playing[stepped]
            self.returns[played] += frame.reward[stepped]
            self.lengths[played] += 1
            self.successes[played] = np.maximum(self.successes[played], frame.success[stepped])
            self.playing[stepped & (frame.terminated | frame.truncated)] = -1
            if progress is not None:
                progress(self.started - int((self.playing >= 0).sum()))
        told = bool((self.successes >= 0).any())
        return EvaluationResult(self.returns, self.lengths, self.successes > 0 if told else None)

    def _orders(self, stepped: np.ndarray, actions: np.ndarray) -> Orders:
        """Orders to step where an episode is under way and to begin one where none is."""
        commands = np.where(stepped, Command.STEP, Command.REST).astype(np.int8)
        free = np.flatnonzero(~stepped)[: self.episodes - self.started]
        commands[free] = Command.RESET
        if self.memory.shape[1]:
            self.memory[torch.from_numpy(free)] = 0.0
        self.playing[free] = self.started + np.arange(len(free))
        self.started += len(free)
        return Orders(commands, self.seed + self.playing, actions)

    def _act(self, observation: np.ndarray, rows: np.ndarray, action_dim: int) -> np.ndarray:
        """Actions [n, act_dim] for the n environments that `rows` [num_envs] bool selects."""
        states = torch.from_numpy(observation).to(self.device)
        if isinstance(self.policy, ActingPolicy):
            playing = torch.from_numpy(rows)
            output, memory = self.policy.evaluation_action(states, self.memory[playing])
            if self.memory.shape[1]:
                self.memory[playing] = memory
        else:
            output = self.policy(states)
        actions: np.ndarray = output.detach().to("cpu", torch.float32).numpy()
        _check_actions(actions, observation, action_dim)
        return actions


def _check_actions(actions: np.ndarray, observation: np.ndarray, action_dim: int) -> None:
    expected = (len(observation), action_dim)
    if actions.shape != expected:
        raise UserError(
            f"evaluation: the policy gave actions of shape {list(actions.shape)} for observations "
            f"of shape {list(observation.shape)}, expected {list(expected)}. Was it trained in "
            f"another environment?"
        )
    bad = ~np.isfinite(actions).all(axis=1)
    if bad.any():
        seen = "finite" if np.isfinite(observation[bad]).all() else "not finite either"
        raise UserError(
            f"evaluation: the policy gave NaN or infinite actions in {int(bad.sum())} of "
            f"{len(actions)} rows; the observations there are {seen}. Training may have diverged."
        )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, to leave the other cores to the environments.

    Matrix products of a few rows are too small to parallelise, and threads that spin while they
    wait made evaluation on two busy cores 15 times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
