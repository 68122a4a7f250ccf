"""Reinforcement learning with prior data (RLPD, arXiv 2302.02948)."""

from __future__ import annotations

from typing import Any

from pex_lightning.algorithms.sac import SAC, ActorValue


class RLPD(SAC):
    """Reinforcement learning with prior data (RLPD, arXiv 2302.02948).

    SAC from nothing, with half of every batch from the dataset (`--data.offline_fraction`), ten
    Q-functions with LayerNorm of which the least of two makes the target, and twenty updates of the
    critic for each environment step (`--data.updates_per_step`) and for each of the policy. Two
    hidden layers here as in the paper's locomotion tasks; it has three for AntMaze and Adroit.

    Args:
        num_q: As for Algorithm.
        min_q_of: As for Algorithm; 1 in the paper's AntMaze tasks.
        layer_norm: As for Algorithm.
        actor_every: As for Algorithm.
        actor_value: As for SAC.
        target_entropy: As for SAC.
        kwargs: As for SAC.
    """

    def __init__(
        self,
        num_q: int = 10,
        min_q_of: int | None = 2,
        layer_norm: bool = True,
        actor_every: int = 20,
        actor_value: ActorValue = "mean",
        target_entropy: float = -0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_q=num_q,
            min_q_of=min_q_of,
            layer_norm=layer_norm,
            actor_every=actor_every,
            actor_value=actor_value,
            target_entropy=target_entropy,
            **kwargs,
        )
