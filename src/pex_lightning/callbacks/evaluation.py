"""Evaluation during training, at fixed intervals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.interrupt import GracefulInterrupt
from pex_lightning.callbacks.interruptible import BrokenOffError, interruptible
from pex_lightning.callbacks.loggers import log
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.data.description import DataDescription
from pex_lightning.data.schedule import Interval
from pex_lightning.data.stage_data import stage_data
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.evaluation.starts import SolvedStarts
from pex_lightning.policies.acting import ActingPolicy, PolicyFunction

_log = logging.getLogger(__name__)

MembersWhen = Literal["never", "ends", "always"]


class Evaluation(Callback):
    """Evaluates the acting policy in separate environments and logs `eval/*`.

    It does so at the start, whenever it is due and at the end, always with the same
    seeds, so that only the policy makes scores differ. The processes of a run share the episodes.

    Where an acting policy has several members, each of them can be evaluated alone on the same
    starts, which is logged as `eval/<member>/*`. `eval/starts_kept`, `starts_lost` and `starts_won`
    then count the starts that the offline members solved at first and that the policy solves now
    or does not, and those that it alone solves.

    Args:
        episodes: Episodes of one evaluation, over all processes; at least one each.
        every: When it is due; a number stands for so many gradient steps.
        seed: Seed of the first episode; episode i uses `seed + i`.
        num_envs: Environments that run at a time in each process.
        interrupt: If given, a signal that it receives breaks off an evaluation.
        members: When members are evaluated alone: `never`; at the `ends`, which is the offline
            members in the first evaluation and all members in the last one; or `always`.

    Attributes:
        latest: The metrics of the last evaluation, by name; empty before the first.
        evaluated_at: The gradient step of the last evaluation.
        seconds: Time spent in evaluations so far.
        runs: How often a policy was evaluated so far, members alone included.
        watch: Called during an evaluation with the name of the member that acts alone, which is
            empty for the policy itself, the episodes done and those of this process.
    """

    def __init__(
        self,
        episodes: int,
        every: Interval | int,
        seed: int,
        num_envs: int | None = None,
        interrupt: GracefulInterrupt | None = None,
        members: MembersWhen = "never",
    ) -> None:
        self._episodes = episodes
        self._interval = Interval(every) if isinstance(every, int) else every
        self._seed = seed
        self._num_envs = num_envs
        self._interrupt = interrupt
        self._members: MembersWhen = members
        self._solved: SolvedStarts | None = None
        self._evaluator: Evaluator | None = None
        self.evaluated_at: int | None = None
        self.seconds = 0.0
        self.runs = 0
        self.watch: Callable[[str, int, int], None] | None = None
        self.latest: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make chunks of updates end where evaluations are due."""
        stage_data(trainer).boundary = self._interval

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the policy with which the stage starts."""
        if trainer.global_step == 0:
            self._evaluate(trainer, cast(Algorithm, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Evaluate if an evaluation is due."""
        if self._interval.due(trainer.global_step):
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

    def runs_left(self, step: int, max_steps: int, members: int) -> int:
        """How often a policy is still to be evaluated after the update `step`.

        Args:
            step: Updates done, with the evaluation that was due then.
            max_steps: Updates of the stage.
            members: Number of members of the acting policy.
        """
        if step >= max_steps:
            return 0
        evaluations = self._interval.times_left(step, max_steps)
        if members == 1 or self._members == "never":
            return evaluations
        return evaluations + members * (evaluations if self._members == "always" else 1)

    def state_dict(self) -> dict[str, Any]:
        """The last metrics, the gradient step of their evaluation, and the solved starts."""
        state = {"latest": dict(self.latest), "evaluated_at": self.evaluated_at}
        if self._solved is not None:
            solved = self._solved.solved.tolist()
            state["solved"] = {"seed": self._solved.seed, "starts": solved}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.latest = dict(state_dict["latest"])
        self.evaluated_at = state_dict["evaluated_at"]
        solved = state_dict.get("solved")
        if solved is not None:
            starts = np.array([bool(start) for start in solved["starts"]], dtype=bool)
            self._solved = SolvedStarts(int(solved["seed"]), len(starts), starts)

    def _evaluate(self, trainer: Trainer, module: Algorithm) -> None:
        start = time.perf_counter()
        stage = stage_data(trainer)
        data = stage.describe()
        try:
            policy = module.acting_policy()
            result = self._run(trainer, policy, module.device, data)
            if self._solved is not None and not self._solved.are(self._seed, result.episodes):
                # A run that is resumed with other episodes.
                self._solved = None
            alone = self._run_members(trainer, policy, module.device, data)
        except BrokenOffError:
            self._close()
            return
        metrics = evaluation_metrics(result, data) | {"eval/episodes": float(result.episodes)}
        for name, of_member in alone.items():
            metrics |= evaluation_metrics(of_member, data, f"eval/{name}")
        if self._solved is not None:
            starts = self._solved.compare(result)
            metrics |= {f"eval/{name}": count for name, count in starts.items()}
        self.latest, self.evaluated_at = metrics, trainer.global_step
        module.on_evaluation(metrics)
        log(trainer, metrics)
        tensors = {name: torch.tensor(value) for name, value in metrics.items()}
        trainer.callback_metrics.update(tensors)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        _log.info(_summary(result, data, trainer.global_step, stage.env_steps, seconds))
        for name, of_member in alone.items():
            _log.info(f"  {name} alone: {_outcome(of_member, data)}")

    def _close(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None

    def _run(
        self,
        trainer: Trainer,
        policy: ActingPolicy | PolicyFunction,
        device: torch.device,
        data: DataDescription,
        name: str = "",
    ) -> EvaluationResult:
        """Run this process's share of the episodes, and join it with the others'."""
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
        if interrupt is not None:
            policy = interruptible(policy, interrupt)
        watch = self.watch
        progress = None if watch is None else lambda done: watch(name, done, count)
        result = self._evaluator.run(policy, device, progress)
        self.runs += 1
        return _gather(result, world)

    def _run_members(
        self, trainer: Trainer, policy: ActingPolicy, device: torch.device, data: DataDescription
    ) -> dict[str, EvaluationResult]:
        """Evaluate those members alone for whom it is time, by name; the learner is the last."""
        *offline, learner = range(len(policy.members))
        at_end = 0 < trainer.max_steps <= trainer.global_step
        if self._members == "never" or not offline:
            return {}
        if self._members == "always" or at_end:
            due = [*offline, learner]
        else:
            due = offline if self._solved is None else []
        found = {}
        for member in due:
            alone = policy.alone(member)
            if alone is not None:
                found[policy.members[member]] = self._run(
                    trainer, alone, device, data, policy.members[member]
                )
        names = [policy.members[member] for member in offline]
        before = [found[name] for name in names if name in found]
        if self._solved is None and before:
            self._solved = SolvedStarts.of(self._seed, before)
        return found


def evaluation_metrics(
    result: EvaluationResult, data: DataDescription, prefix: str = "eval"
) -> dict[str, float]:
    """Means over the episodes of an evaluation, after a prefix and a slash.

    `return`, with its standard deviation over the E episodes (`return_std`, divided by E), `length`
    and, if known, `success` and `score`.
    """
    metrics = {
        f"{prefix}/return": result.return_mean,
        f"{prefix}/return_std": result.return_std,
        f"{prefix}/length": float(result.lengths.mean()),
    }
    if result.success_rate is not None:
        metrics[f"{prefix}/success"] = result.success_rate
    reference = score_reference(data.env.id)
    if reference is not None:
        metrics[f"{prefix}/score"] = result.score(reference)
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
    data: DataDescription,
    gradient_steps: int,
    env_steps: int,
    seconds: float,
) -> str:
    """Summarise an evaluation in one line for the terminal."""
    parts = [f"step {gradient_steps:,}"]
    if env_steps:
        parts.append(f"env steps {env_steps:,}")
    parts.append(_outcome(result, data))
    return f"{'  '.join(parts)}  ({result.episodes} episodes, {seconds:.1f} s)"


def _outcome(result: EvaluationResult, data: DataDescription) -> str:
    """Return, and success and score where they are known."""
    parts = [f"return {result.return_mean:.3g} ± {result.return_std:.2g}"]
    if result.success_rate is not None:
        parts.append(f"success {100 * result.success_rate:.0f} %")
    reference = score_reference(data.env.id)
    if reference is not None:
        # A line may be read out of context, so it names the dataset of the score.
        kind = " (not a D4RL score)" if data.d4rl_score() is False else ""
        parts.append(f"score {result.score(reference):.1f}{kind} on {data.dataset}")
    return "  ".join(parts)
