"""Warm-start reinforcement learning (WSRL, arXiv 2412.07762)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pex_lightning.algorithms.sac import SAC, ActorValue
from pex_lightning.handover.checkpoint import Checkpoint, Part
from pex_lightning.nn.distributions import take_policy


class WSRL(SAC):
    """Goes on from an offline stage with SAC alone, without its rows.

    The first steps are collected by the offline policy before any update (`--data.start_steps`,
    5,000 in the paper), so that the critic meets its own states first; from then on no offline row
    is drawn (`--data.offline_fraction 0`). Four updates of the critic for each environment step and
    for each of the policy (`--data.updates_per_step 4`).

    The offline stage may be Cal-QL's, the paper's choice, or IQL's, whose policy is a `gaussian`;
    `policy_distribution`, `num_q` and `layer_norm` have to be the same in both. α is taken over
    where the offline stage has one.

    Args:
        num_q: As for Algorithm; 10 in the paper.
        min_q_of: As for Algorithm.
        layer_norm: As for Algorithm.
        actor_every: As for Algorithm.
        actor_value: As for SAC.
        kwargs: As for SAC.
    """

    takes = frozenset[Part](("q", "target", "policy", "moments"))

    def __init__(
        self,
        num_q: int = 10,
        min_q_of: int | None = 2,
        layer_norm: bool = True,
        actor_every: int = 4,
        actor_value: ActorValue = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_q=num_q,
            min_q_of=min_q_of,
            layer_norm=layer_norm,
            actor_every=actor_every,
            actor_value=actor_value,
            **kwargs,
        )

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Q, Q̄ and the policy go on with their moments, and α if there is one."""
        (offline,) = given
        self.critic.q_net.load_state_dict(offline.part("q"))
        self.critic.target_q_net.load_state_dict(offline.part("target"))
        take_policy(self.policy, offline.part("policy"))
        self.continue_moments(offline, "q", "actor")
        if "temperature" in offline.header.parts:
            self.alpha.load_state_dict(offline.part("temperature"))
            self.continue_moments(offline, "temperature")
