"""Direct fine-tuning of an offline stage (the row "Direct" of PEX, arXiv 2302.00935)."""

from __future__ import annotations

from collections.abc import Sequence

from pex_lightning.algorithms.online_iql import OnlineIQL
from pex_lightning.handover.checkpoint import Checkpoint, Part
from pex_lightning.nn.distributions import take_policy


class Direct(OnlineIQL):
    """Goes on with everything that the offline stage learnt, on what its policy collects now.

    Nothing protects the offline policy: it is the policy that learns. The target starts as Q, as
    in the paper's comparison.
    """

    takes = frozenset[Part](("q", "v", "policy", "moments"))

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Q, V and the policy go on with their moments; Q̄ := Q."""
        (offline,) = given
        self.critic.q_net.load_state_dict(offline.part("q"))
        self.critic.v_net.load_state_dict(offline.part("v"))
        take_policy(self.policy, offline.part("policy"))
        self.critic.reset_target()
        self.continue_moments(offline, *self.groups())
