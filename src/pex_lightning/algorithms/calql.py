"""Calibrated Q-learning (Cal-QL, arXiv 2303.05479), offline and online."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.sac import SAC
from pex_lightning.errors import check_range
from pex_lightning.handover.checkpoint import Checkpoint, Part
from pex_lightning.losses.calql import calibrated_regulariser
from pex_lightning.losses.iql import q_loss, value_loss
from pex_lightning.losses.sac import sac_diagnostics, temperature_loss
from pex_lightning.nn.distributions import take_policy
from pex_lightning.updates.batch import Batch, Losses


class CalQL(SAC):
    """Learns from a dataset with SAC's policy and a critic that is conservative and calibrated.

    The critic's loss is L_Q, without entropy in its target, plus `½ · cql_alpha · R` (see
    `pex_lightning.losses.calql`). The authors' code has the squared error without its half, so
    that `cql_alpha` means what it means there.

    V_μ, the value of the policy that the data come from, bounds Q from below. The authors take the
    returns of the data's episodes. Episodes that end at a time limit, and online ones that are not
    over, have none, so that here V_μ is learnt on the same rows by temporal differences:
    `L_V = ½ mean((r + γ (1 − d) V_μ(s') − V_μ(s))²)`, the critic's V.

    Args:
        cql_alpha: Weight of R; 5 in the paper's AntMaze tasks, 1 in Adroit and Kitchen.
        cql_actions: n, actions of each of the three kinds; 10 in the authors' code. A quarter of
            the time with 2, on a CPU.
        target_actions: Actions of π(s') of which the one with the largest value makes the TD
            target; 10 in the authors' code for AntMaze.
        calibrated: Whether V_μ bounds the policy's actions; without it, this is CQL(H).
        entropy_in_backup: As for SAC.
        kwargs: As for SAC.

    Raises:
        UserError: A value is outside of its range.
    """

    acts = False
    has_v = True

    def __init__(
        self,
        cql_alpha: float = 5.0,
        cql_actions: int = 10,
        target_actions: int = 1,
        calibrated: bool = True,
        entropy_in_backup: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(entropy_in_backup=entropy_in_backup, **kwargs)
        check_range("--model.cql_alpha", cql_alpha, cql_alpha >= 0.0, "0 or more")
        check_range("--model.cql_actions", cql_actions, cql_actions >= 1, "at least 1")
        check_range("--model.target_actions", target_actions, target_actions >= 1, "at least 1")
        self.cql_alpha = cql_alpha
        self.cql_actions = cql_actions
        self.target_actions = target_actions
        self.calibrated = calibrated

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q, V_μ, the policy and α."""
        return {**super().groups(), "v": self.critic.v_net.parameters()}

    def losses(self, batch: Batch) -> Losses:
        """L_Q with R, L_V, L_π and L_α on one batch."""
        critic, alpha = self.critic, self.alpha()
        with torch.no_grad():
            next_value = self._next_value(batch.next_observation, alpha)
            td_value = batch.reward + self.gamma * critic.v(batch.next_observation)
            v_target = torch.where(batch.terminated, batch.reward, td_value)
        v = value_loss(v_target, critic.v(batch.observation), expectile=0.5)
        q_now = critic.q(batch.observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        regulariser = self._regulariser(batch, q_now, v_target - v.advantage)
        actor = self.actor_loss(batch, alpha)
        temperature = temperature_loss(alpha, actor.entropy, self.target_nats)
        terms = {
            "q": q.loss + 0.5 * self.cql_alpha * regulariser,
            "actor": actor.loss,
            "temperature": temperature,
            "v": v.loss,
        }
        more = {"v_loss": v.loss.detach(), "cql_regulariser": regulariser.detach()}
        return Losses(terms, {**sac_diagnostics(q, actor, alpha), **more})

    def _next_value(self, observation: Tensor, alpha: Tensor) -> Tensor:
        """Value of the next state in a TD target, `[B]`: the best of `target_actions`."""
        states = observation.expand(self.target_actions, *observation.shape).flatten(0, 1)
        action, log_prob = self.policy.rsample(states)
        value = self.critic.min_target_q(states, action)
        if self.entropy_in_backup:
            value = value - alpha * log_prob
        return value.view(self.target_actions, -1).amax(0)

    def _regulariser(self, batch: Batch, q_data: Tensor, reference: Tensor) -> Tensor:
        """R."""
        policy, n = self.policy, self.cql_actions
        rows = batch.observation.shape[0]

        def repeated(states: Tensor, times: int) -> Tensor:
            return states.expand(times, *states.shape).flatten(0, 1)

        with torch.no_grad():
            at = torch.cat((repeated(batch.observation, n), repeated(batch.next_observation, n)))
            own_action, own_density = policy.rsample(at)
            noise = 2.0 * torch.rand(n * rows, own_action.shape[-1], device=at.device) - 1.0
            random_action = policy.centre + policy.half_width * noise
        actions = torch.cat((random_action, own_action))
        q = self.critic.q(repeated(batch.observation, 3 * n), actions).view(-1, 3 * n, rows)
        return calibrated_regulariser(
            q_data,
            q[:, :n],
            q[:, n:],
            -(2.0 * policy.half_width).log().sum(),
            own_density.view(2 * n, rows),
            reference if self.calibrated else None,
        )


class OnlineCalQL(CalQL):
    """Cal-QL that goes on from its own offline stage, on a mix with what its policy collects."""

    takes = frozenset[Part](("q", "target", "v", "policy", "temperature", "moments"))
    acts = True

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Everything goes on where the offline stage left it, with its moments."""
        (offline,) = given
        self.critic.q_net.load_state_dict(offline.part("q"))
        self.critic.target_q_net.load_state_dict(offline.part("target"))
        self.critic.v_net.load_state_dict(offline.part("v"))
        take_policy(self.policy, offline.part("policy"))
        self.alpha.load_state_dict(offline.part("temperature"))
        self.continue_moments(offline, *self.groups())
