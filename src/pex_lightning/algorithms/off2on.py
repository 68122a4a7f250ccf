"""Off2On: an ensemble of offline agents, fine-tuned as one (arXiv 2107.00591)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pex_lightning.algorithms.iql_ensemble import (
    check_ensemble,
    ensemble_critic,
    ensemble_policy,
)
from pex_lightning.algorithms.sac import SAC
from pex_lightning.algorithms.stacking import as_ensemble
from pex_lightning.data.description import DataDescription
from pex_lightning.handover.checkpoint import Checkpoint, Part
from pex_lightning.losses.sac import SACPolicyLoss, sac_policy_loss
from pex_lightning.nn.distributions import Distribution
from pex_lightning.nn.ensemble import EnsembleCritic, GaussianEnsemble
from pex_lightning.updates.batch import Batch


class Off2On(SAC):
    """`ensemble_size` offline agents go on learning by SAC, and act as one Gaussian.

    The policy is the Gaussian with the moments of the agents' mixture; all of its members learn
    through it. It maximises the mean over the agents of their smaller Q-value, and α times its
    entropy. Every agent's Q-functions learn from that agent's own target at the next action of the
    one policy. The paper draws its batches by balanced replay, `--data.mix balanced`, and takes
    several times as many updates at first, `--data.initial_updates`.

    It starts from one checkpoint of an ensemble, or from as many of single agents as
    `ensemble_size` says. The paper's agents are of CQL, with squashed policies; here they are of
    IQL, and so Gaussians that are not squashed: an action is clipped to the action space, and
    log π is that of the sample before it was clipped. Q-functions go on with the moments of their
    Adam, which policies, having another loss now, do not.

    Args:
        ensemble_size: Number of agents; 5 in the paper.
        entropy_weight: α at first; 1 in the paper. The entropy of policies that are not squashed
            has no bound: where rewards are about 1, as in mazes, α = 1 drives all of their modes
            to the bounds of the action space, where they learn no more.
        policy_distribution: `gaussian`; the offline agents' policies are.
        kwargs: As for SAC; `actor_value` is taken over each agent's Q-functions.

    Raises:
        UserError: A value is outside of its range.
    """

    takes = frozenset[Part](("q", "target", "policy", "moments"))
    critic: EnsembleCritic
    policy: GaussianEnsemble

    def __init__(
        self,
        ensemble_size: int = 5,
        entropy_weight: float = 0.1,
        policy_distribution: Distribution = "gaussian",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            entropy_weight=entropy_weight, policy_distribution=policy_distribution, **kwargs
        )
        check_ensemble(ensemble_size, self.networks)
        self.ensemble_size = ensemble_size

    def build(self, data: DataDescription) -> None:
        """Create the critics, the policies and α."""
        super().build(data)
        size = self.ensemble_size
        self.critic = ensemble_critic(self.networks, data.env, size, with_v=False)
        self.policy = ensemble_policy(self.networks, data.env, size)

    def check_given(self, given: Sequence[Checkpoint]) -> None:
        """Refuse checkpoints that are not of as many agents as there are to be."""
        as_ensemble(given, self.ensemble_size)

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Q-functions, targets and policies go on where the offline stage left them."""
        offline = as_ensemble(given, self.ensemble_size)
        self.critic.q_net.load_state_dict(offline.part("q"))
        self.critic.target_q_net.load_state_dict(offline.part("target"))
        self.policy.load_state_dict(offline.part("policy"))
        self.continue_moments(offline, "q")

    def actor_loss(self, batch: Batch, alpha: Tensor) -> SACPolicyLoss:
        """L_π, with the critics' parameters as constants."""
        action, log_prob = self.policy.rsample(batch.observation)
        values = self.critic.q(batch.observation, action, constant=True)
        by_agent = values.mean(0) if self.actor_value == "mean" else values.amin(0)
        return sac_policy_loss(by_agent.mean(0), log_prob, alpha.detach())
