"""How policies are evaluated during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pex_lightning.callbacks.evaluation import MembersWhen
from pex_lightning.errors import check_range
from pex_lightning.seeding import derive_seed


@dataclass(frozen=True)
class EvaluationSettings:
    """How policies are evaluated.

    Attributes:
        episodes: Episodes of one evaluation.
        every: Gradient steps between two evaluations.
        every_env_steps: Environment steps between two evaluations of the online stage, counted
            with those before the first update, instead of `every`.
        seed: Seed of the first episode, episode i uses seed + i; by default derived from
            --seed_everything and unlike any seed of training.
        num_envs: Environments that run at a time; by default 50.
        members: When the members of a policy set are evaluated alone as well, on the same starts:
            `never`; at the `ends` of a stage (the offline members in its first evaluation, all
            members in its last one); or `always`, which takes as many evaluations more as there are
            members.
    """

    episodes: int = 100
    every: int = 10_000
    every_env_steps: int | None = None
    seed: int | None = None
    num_envs: int | None = None
    members: MembersWhen = "ends"

    def __post_init__(self) -> None:
        for name, value in (
            ("episodes", self.episodes),
            ("every", self.every),
            ("every_env_steps", self.every_env_steps),
            ("num_envs", self.num_envs),
        ):
            fits = value is None or value >= 1
            check_range(f"--evaluation.{name}", value, fits, "at least 1")
        check_range("--evaluation.seed", self.seed, (self.seed or 0) >= 0, "0 or more")
        known = get_args(MembersWhen)
        check_range("--evaluation.members", self.members, self.members in known, " or ".join(known))

    def first_seed(self, run_seed: int) -> int:
        """Seed of the first episode of every evaluation in a run of this seed."""
        return derive_seed("evaluation", run_seed) % 2**31 if self.seed is None else self.seed
