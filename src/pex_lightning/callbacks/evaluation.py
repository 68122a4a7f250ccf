"""Evaluation during training, at a fixed interval of gradient steps."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.data.description import DataDescription
from pex_lightning.data.stage_data import stage_data
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.policies.acting import ActingPolicy, Choice

_log = logging.getLogger(__name__)


class _BrokenOffError(Exception):
    """An evaluation was broken off by a signal; its episodes are discarded."""


class _Interruptible(ActingPolicy):
    """Acts as `policy` does, but raises once a signal was received."""

    def __init__(self, policy: ActingPolicy, interrupt: GracefulInterrupt) -> None:
        super().__init__(policy.members, policy.memory_size)
        self.policy = policy
        self._interrupt = interrupt

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        return self.policy.act(observation, memory)

    def evaluation_action(
        self, observation: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._interrupt.received:
            raise _BrokenOffError
        return self.policy.evaluation_action(observation, memory)


class Evaluation(Callback):
    """Evaluates the acting policy in separate environments and logs `eval/*`.

    It does so at the start, every `every` gradient steps and at the end, always with the same
    seeds, so that only the policy makes scores differ. The processes of a run share the episodes.

    Args:
        episodes: Episodes of one evaluation, over all processes; at least one each.
        every: Gradient steps between evaluations.
        seed: Seed of the first episode; episode i uses `seed + i`.
        num_envs: Environments that run at a time in each process.
        interrupt: If given, a signal that it receives breaks off an evaluation.

    Attributes:
        latest: The metrics of the last evaluation, by name; empty before the first.
        evaluated_at: The gradient step of the last evaluation.
        seconds: Time spent in evaluations so far.
    """

    def __init__(
        self,
        episodes: int,
        every: int,
        seed: int,
        num_envs: int | None = None,
        interrupt: GracefulInterrupt | None = None,
    ) -> None:
        self._episodes = episodes
        self._every = every
        self._seed = seed
        self._num_envs = num_envs
        self._interrupt = interrupt
        self._evaluator: Evaluator | None = None
        self.evaluated_at: int | None = None
        self.seconds = 0.0
        self.latest: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make chunks of updates end where evaluations are due."""
        stage_data(trainer).boundary = self._every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the policy with which the stage starts."""
        if trainer.global_step == 0:
            self._evaluate(trainer, cast(Algorithm, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Evaluate if an evaluation is due."""
        if trainer.global_step % self._every == 0:
            self._evaluate(trainer, cast(Algorithm, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the final policy, unless training ended early or it was evaluated already."""
        finished = trainer.global_step >= trainer.max_steps
        if finished and self.evaluated_at != trainer.global_step:
            self._evaluate(trainer, cast(Algorithm, pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the environments."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the environments; Lightning calls no `teardown` after an error."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """The last metrics and the gradient step of their evaluation."""
        return {"latest": dict(self.latest), "evaluated_at": self.evaluated_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.latest = dict(state_dict["latest"])
        self.evaluated_at = state_dict["evaluated_at"]

    def _evaluate(self, trainer: Trainer, module: Algorithm) -> None:
        start = time.perf_counter()
        stage = stage_data(trainer)
        data = stage.describe()
        try:
            mine = self._run_share(trainer, module, data)
        except _BrokenOffError:
            self._close()
            return
        result = _gather(mine, trainer.world_size)
        metrics = evaluation_metrics(result, data)
        self.latest, self.evaluated_at = metrics, trainer.global_step
        module.on_evaluation(metrics)
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "env_steps": stage.env_steps}, trainer.global_step)
        tensors = {name: torch.tensor(value) for name, value in metrics.items()}
        trainer.callback_metrics.update(tensors)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        _log.info(_summary(result, metrics, data, trainer.global_step, stage.env_steps, seconds))

    def _close(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None

    def _run_share(
        self, trainer: Trainer, module: Algorithm, data: DataDescription
    ) -> EvaluationResult:
        """Run this process's share of the episodes."""
        world, rank = trainer.world_size, trainer.global_rank
        episodes = max(self._episodes, world)
        first = episodes * rank // world
        count = episodes * (rank + 1) // world - first
        if self._evaluator is None:
            self._evaluator = Evaluator(
                data.env.id,
                data.env.kwargs,
                episodes=count,
                num_envs=self._num_envs,
                seed=self._seed + first,
                num_workers=None if world == 1 else 1,
            )
        interrupt = self._interrupt if world == 1 else None
        policy = module.acting_policy()
        if interrupt is not None:
            policy = _Interruptible(policy, interrupt)
        return self._evaluator.run(policy, module.device)


def evaluation_metrics(result: EvaluationResult, data: DataDescription) -> dict[str, float]:
    """`eval/return`, `eval/length` and, if known, `eval/success` and `eval/score`."""
    metrics = {"eval/return": result.return_mean, "eval/length": float(result.lengths.mean())}
    if result.success_rate is not None:
        metrics["eval/success"] = result.success_rate
    reference = score_reference(data.env.id)
    if reference is not None:
        metrics["eval/score"] = result.score(reference)
    return metrics


def _gather(mine: EvaluationResult, world_size: int) -> EvaluationResult:
    """Join the results of all processes, in the order of their seeds."""
    if world_size == 1:
        return mine
    everyone: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(everyone, mine)
    successes = [part.successes for part in everyone if part.successes is not None]
    return EvaluationResult(
        returns=np.concatenate([part.returns for part in everyone]),
        lengths=np.concatenate([part.lengths for part in everyone]),
        successes=np.concatenate(successes) if successes else None,
    )


def _summary(
    result: EvaluationResult,
    metrics: dict[str, float],
    data: DataDescription,
    gradient_steps: int,
    env_steps: int,
    seconds: float,
) -> str:
    """Summarise an evaluation in one line for the terminal."""
    parts = [f"step {gradient_steps:,}"]
    if env_steps:
        parts.append(f"env steps {env_steps:,}")
    parts.append(f"return {result.return_mean:.3g} ± {result.return_std:.2g}")
    if result.success_rate is not None:
        parts.append(f"success {100 * result.success_rate:.0f} %")
    if "eval/score" in metrics:
        # A line may be read out of context, so it names the dataset of the score.
        kind = " (not a D4RL score)" if data.d4rl_score() is False else ""
        parts.append(f"score {metrics['eval/score']:.1f}{kind} on {data.dataset}")
    return f"{'  '.join(parts)}  ({result.episodes} episodes, {seconds:.1f} s)"
