"""Methods that put a new policy beside the offline one, with IQL's critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pex_lightning.algorithms.online_iql import OnlineIQL
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError, check_range
from pex_lightning.handover import check_hand_over, read_checkpoint
from pex_lightning.handover.checkpoint import PLACES, Checkpoint, Part
from pex_lightning.nn.policy import Policy
from pex_lightning.policies.policy_set import PolicySet

CriticStart = Literal["transferred", "q", "v", "fresh"]
LearnerStart = Literal["fresh", "copy", "copy_mean"]

_CRITIC_PARTS: dict[CriticStart, frozenset[Part]] = {
    "transferred": frozenset(("q", "target", "v", "moments")),
    "q": frozenset(("q", "target", "moments")),
    "v": frozenset(("v", "moments")),
    "fresh": frozenset(),
}


class Expansion(OnlineIQL):
    """Π = [π_β, π_θ]: the offline policy, frozen, and one that learns beside it.

    Subclasses say who acts. The losses are IQL's, with π_θ as the policy.

    Args:
        critic_start: What the critic takes over from the offline stage: `transferred` Q, Q̄ and V,
            `q` Q and Q̄ alone, `v` V alone, `fresh` nothing.
        critic_ckpt_path: Another offline checkpoint, of a critic of the same sizes, from which the
            critic takes that over.
        learner_start: How π_θ starts: `fresh`, as a `copy` of π_β, or with π_β's mean and a fresh
            standard deviation (`copy_mean`). A copy needs π_β to have this module's sizes, and goes
            on with its moments where the critic does with its own.
        kwargs: As for OnlineIQL.

    Attributes:
        policies: The policy set Π.

    Raises:
        UserError: A value is outside of its range.
    """

    places = {**PLACES, "policy": "policies.learner."}  # noqa: RUF012  (declared in the base)

    def __init__(
        self,
        critic_start: CriticStart = "transferred",
        learner_start: LearnerStart = "fresh",
        critic_ckpt_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        known = get_args(CriticStart)
        check_range("--model.critic_start", critic_start, critic_start in known, " or ".join(known))
        known = get_args(LearnerStart)
        fits = learner_start in known
        check_range("--model.learner_start", learner_start, fits, " or ".join(known))
        if learner_start == "copy_mean" and self.networks.distribution != "gaussian":
            raise UserError(
                "--model.learner_start copy_mean keeps a standard deviation that does not depend "
                "on the state, which --model.policy_distribution gaussian alone has. Give copy."
            )
        self.critic_start = critic_start
        self.learner_start = learner_start
        self._critic_parts = _CRITIC_PARTS[critic_start]
        self.critic_ckpt_path = critic_ckpt_path
        self.takes = frozenset[Part](("policy",))
        if critic_ckpt_path is None:
            self.takes = self._critic_parts | self.takes
        elif not self._critic_parts:
            raise UserError(
                "--model.critic_ckpt_path names a critic to go on with, but --model.critic_start "
                "is fresh. Give transferred, q or v, or leave the path out."
            )

    def build(self, data: DataDescription) -> None:
        """Create the critic and Π."""
        self.critic = self.networks.critic(data.env)
        self.policies = self.new_set(data)
        # The policy that IQL's losses and groups train.
        self.hold_unregistered("policy", self.policies.learner)

    def check_files(self, data: DataDescription) -> None:
        """Make sure that another checkpoint's critic fits."""
        if self.critic_ckpt_path is not None:
            self._critic_before(data)

    def _critic_before(self, data: DataDescription) -> Checkpoint:
        assert self.critic_ckpt_path is not None
        checkpoint = read_checkpoint(self.critic_ckpt_path)
        check_hand_over(checkpoint, data, self._critic_parts, self.hparams)
        return checkpoint

    def new_set(self, data: DataDescription) -> PolicySet:
        """Π."""
        return PolicySet([self.networks.policy(data.env)], self.networks.policy(data.env))

    def start(self, given: Sequence[Checkpoint]) -> None:
        """The offline policy becomes π_β; the critic goes on as `critic_start` says."""
        (offline,) = given
        if "policy" in self.takes:
            self.policies.set_frozen(0, offline.part("policy"))
        before = offline
        if self.critic_ckpt_path is not None:
            assert self.description is not None
            before = self._critic_before(self.description)
        if "q" in self._critic_parts:
            self.critic.q_net.load_state_dict(before.part("q"))
            self.critic.target_q_net.load_state_dict(before.part("target"))
            self.continue_moments(before, "q")
        if "v" in self._critic_parts:
            self.critic.v_net.load_state_dict(before.part("v"))
            self.continue_moments(before, "v")
        if self.learner_start != "fresh":
            learner = self.policies.learner
            own = learner.state_dict() if self.learner_start == "copy_mean" else {}
            own_noise = {key: value.clone() for key, value in own.items() if key == "log_std"}
            learner.load_state_dict({**offline.part("policy"), **own_noise})
            if self.learner_start == "copy" and "moments" in self.takes:
                self.continue_moments(offline, "actor")

    @property
    def offline_policy(self) -> Policy:
        """π_β."""
        member = self.policies.frozen[0]
        assert isinstance(member, Policy)
        return member
