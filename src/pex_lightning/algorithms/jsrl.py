"""Jump-start reinforcement learning (JSRL, arXiv 2204.02372)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.expansion import CriticStart, Expansion
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError, check_range
from pex_lightning.policies.jump_start import (
    FixedHorizon,
    GeometricHorizon,
    GuideSteps,
    JumpStart,
    UniformHorizon,
)

GuideSchedule = Literal["curriculum", "random", "geometric"]


class JSRL(Expansion):
    """The offline policy π_β begins every episode and hands over to a new policy π_θ.

    How many steps the guide π_β takes is said by `guide_schedule`. The authors published no code;
    these are three public readings of their paper:

    - `curriculum`: H steps at first, lowered in `curriculum_stages` equal stages to 0. A stage
      ends when the mean return of the last `curriculum_window` evaluations is at least the best
      such mean so far minus `curriculum_tolerance` times its size. Evaluation is guided too.
    - `random`: uniform on 0, …, H, anew in each episode. Evaluation is by π_θ alone.
    - `geometric`: with probability `guide_probability` the guide takes the first step, and goes on
      with probability γ at each further one. Evaluation is by π_θ alone.

    The paper initialises Q afresh, which is the default here; the losses are IQL's.

    Args:
        guide_schedule: How many steps the guide takes.
        guide_steps: H, the largest number of guide steps; the environment's time limit by default.
        curriculum_stages: Stages from H to 0.
        curriculum_window: Evaluations over which returns are averaged.
        curriculum_tolerance: Share of the best mean that may be lacking.
        guide_probability: Probability that the guide takes the first step (`geometric`).
        critic_start: As for Expansion.
        kwargs: As for Expansion.

    Raises:
        UserError: A value is outside of its range.
    """

    jump_start: JumpStart

    def __init__(
        self,
        guide_schedule: GuideSchedule = "curriculum",
        guide_steps: int | None = None,
        curriculum_stages: int = 10,
        curriculum_window: int = 5,
        curriculum_tolerance: float = 0.05,
        guide_probability: float = 0.9,
        critic_start: CriticStart = "fresh",
        **kwargs: Any,
    ) -> None:
        super().__init__(critic_start=critic_start, **kwargs)
        known = get_args(GuideSchedule)
        fits = guide_schedule in known
        check_range("--model.guide_schedule", guide_schedule, fits, " or ".join(known))
        fits = guide_steps is None or guide_steps >= 0
        check_range("--model.guide_steps", guide_steps, fits, "0 or more")
        for name, number in (("stages", curriculum_stages), ("window", curriculum_window)):
            check_range(f"--model.curriculum_{name}", number, number >= 1, "at least 1")
        fits = curriculum_tolerance >= 0.0
        check_range("--model.curriculum_tolerance", curriculum_tolerance, fits, "0 or more")
        fits = 0.0 <= guide_probability <= 1.0
        check_range("--model.guide_probability", guide_probability, fits, "between 0 and 1")
        self.guide_schedule = guide_schedule
        self.guide_steps = guide_steps
        self.curriculum_stages = curriculum_stages
        self.curriculum_window = curriculum_window
        self.curriculum_tolerance = curriculum_tolerance
        self.guide_probability = guide_probability

    def build(self, data: DataDescription) -> None:
        """Create the critic, Π and the policy that is guided."""
        super().build(data)
        most = data.env.max_episode_steps if self.guide_steps is None else self.guide_steps
        if self.guide_steps is None and most == 0:
            raise UserError(
                f"{data.env.id} has no time limit, so how long the guide may act has to be told: "
                "give --model.guide_steps."
            )
        self.horizon = self._new_horizon(most)
        self.curriculum = _Curriculum(self.curriculum_window)
        guided = self.guide_schedule == "curriculum"
        self.hold_unregistered("jump_start", JumpStart(self.policies, self.horizon, guided))

    def _new_horizon(self, most: int) -> GuideSteps:
        if self.guide_schedule == "curriculum":
            return FixedHorizon(most)
        if self.guide_schedule == "random":
            return UniformHorizon(most)
        return GeometricHorizon(self.guide_probability, self.gamma)

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Advance the curriculum where the return allows it."""
        if not isinstance(self.horizon, FixedHorizon):
            return
        if self.curriculum.allows(metrics["eval/return"], self.curriculum_tolerance):
            stage = min(int(self.curriculum.stage) + 1, self.curriculum_stages)
            self.curriculum.stage.fill_(stage)
            left = 1.0 - stage / self.curriculum_stages
            self.horizon.steps.fill_(round(self.horizon.most * left))

    def acting_policy(self) -> JumpStart:
        """π_β, then π_θ."""
        return self.jump_start


class _Curriculum(nn.Module):
    """Where the curriculum stands; buffers, so that a resumed run goes on with it.

    Args:
        window: Number of evaluations that are averaged.

    Attributes:
        stage: Stages that have ended.
        returns: [window] the last returns, the newest last.
        count: Evaluations so far.
        best: The best mean so far.
    """

    stage: Tensor
    returns: Tensor
    count: Tensor
    best: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.register_buffer("stage", torch.zeros((), dtype=torch.int64))
        self.register_buffer("returns", torch.zeros(window))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("best", torch.zeros(()))

    def allows(self, value: float, tolerance: float) -> bool:
        """Take in a return; say whether the next stage may begin."""
        first = int(self.count) == 0
        self.returns.copy_(torch.cat((self.returns[1:], self.returns.new_tensor([value]))))
        self.count.add_(1)
        mean = self.returns[-int(self.count) :].mean()
        good = not first and bool(mean >= self.best - tolerance * self.best.abs())
        if first or mean > self.best:
            self.best.copy_(mean)
        return good
