"""Several IQL agents, trained together (the offline stage of Off2On, arXiv 2107.00591)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pex_lightning.algorithms.iql import IQL
from pex_lightning.algorithms.networks import Networks
from pex_lightning.data.description import DataDescription
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError, check_range
from pex_lightning.nn.ensemble import EnsembleCritic, GaussianEnsemble
from pex_lightning.updates.batch import Batch, Losses


class IQLEnsemble(IQL):
    """`ensemble_size` IQL agents that know nothing of each other, as one batched update.

    They differ in their initial parameters and learn from the same batches, which is what makes
    them cheap; agents trained one by one, with other seeds, differ in their batches too. Adam
    treats every number by itself, so that each agent is what IQL would make of its initial
    parameters and these batches, unless `gradient_clip_val` bounds their gradients together. As a
    policy they act as one Gaussian with the moments of their mixture.

    Args:
        ensemble_size: Number of agents; 5 in the paper.
        kwargs: As for IQL.

    Raises:
        UserError: A value is outside of its range.
    """

    critic: EnsembleCritic
    policy: GaussianEnsemble

    def __init__(self, ensemble_size: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_ensemble(ensemble_size, self.networks)
        self.ensemble_size = ensemble_size

    def build(self, data: DataDescription) -> None:
        """Create the critics and the policies."""
        self.critic = ensemble_critic(self.networks, data.env, self.ensemble_size)
        self.policy = ensemble_policy(self.networks, data.env, self.ensemble_size)

    def losses(self, batch: Batch) -> Losses:
        """The sums of every agent's L_V, L_Q and L_π; diagnostics are means over the agents."""
        terms, diagnostics = super().losses(batch)
        size = self.ensemble_size
        # L_Q is a sum over Q-functions; the others are means over agents and rows.
        summed = {"q": terms["q"], "v": terms["v"] * size, "actor": terms["actor"] * size}
        return Losses(summed, {**diagnostics, "q_loss": diagnostics["q_loss"] / size})

    def log_prob(self, batch: Batch) -> Tensor:
        """Log-density of the batch's actions by every agent's policy, `[N, B]`."""
        return self.policy.member_log_probs(batch.observation, batch.action)


def check_ensemble(size: int, networks: Networks) -> None:
    """Check the settings of an ensemble of agents.

    Raises:
        UserError: The size is below 1, or the policies are to be others than Gaussians.
    """
    check_range("--model.ensemble_size", size, size >= 1, "at least 1")
    if networks.distribution != "gaussian":
        raise UserError(
            f"--model.policy_distribution is {networks.distribution}; the policies of an ensemble "
            "are gaussian."
        )


def ensemble_critic(
    networks: Networks, env: EnvSpec, size: int, *, with_v: bool = True
) -> EnsembleCritic:
    """Fresh critics of `size` agents."""
    return EnsembleCritic(
        size,
        env.obs_dim,
        env.action_dim,
        networks.hidden_dims,
        networks.num_q,
        with_v=with_v,
        layer_norm=networks.layer_norm,
        min_q_of=networks.min_q_of,
    )


def ensemble_policy(networks: Networks, env: EnvSpec, size: int) -> GaussianEnsemble:
    """Fresh policies of `size` agents."""
    return GaussianEnsemble(
        size, env.obs_dim, env.action_low, env.action_high, networks.hidden_dims
    )
