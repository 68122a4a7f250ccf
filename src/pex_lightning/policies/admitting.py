"""The settings of the admission of the policy that learns, and the modules that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pex_lightning.errors import check_range
from pex_lightning.policies.admission import Admission
from pex_lightning.policies.choice import ChoiceRule
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.evidence import Evidence, EvidencePolicy, EvidenceRule
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.values import CandidateValues

AdmissionName = Literal["clock", "evidence"]


@dataclass(frozen=True)
class Admitting:
    """How the learning member is admitted to the choice.

    Attributes:
        by: `clock`, the number of gradient steps, or `evidence`, the returns of whole episodes.
        steps: Gradient steps of the clock.
        window: Episodes of the full set that count as evidence.
        least: Least share of episodes that the full set gets by the evidence.
        certain: How sure the evidence has to be for the full set to be evaluated and exported.

    Raises:
        UserError: A value is outside of its range.
    """

    by: AdmissionName = "clock"
    steps: int = 0
    window: int = 10
    least: float = 0.5
    certain: float = 0.8

    def __post_init__(self) -> None:
        known = get_args(AdmissionName)
        check_range("--model.admission", self.by, self.by in known, " or ".join(known))
        check_range("--model.admission_steps", self.steps, self.steps >= 0, "0 or more")
        check_range("--model.admission_window", self.window, self.window >= 2, "at least 2")
        fits = 0.0 < self.least <= 1.0
        check_range("--model.admission_least", self.least, fits, "above 0 and at most 1")
        fits = 0.5 <= self.certain < 1.0
        check_range("--model.admission_certain", self.certain, fits, "at least 0.5 and below 1")

    def new_rule(self, rule: ChoiceRule) -> Admission | EvidenceRule:
        """A rule of choice, wrapped."""
        if self.by == "clock":
            return Admission(rule)
        return EvidenceRule(rule, Evidence(self.window, self.least, self.certain))


def new_composite(
    policies: PolicySet,
    values: CandidateValues,
    rule: Admission | EvidenceRule,
    eval_epsilon: float,
) -> CompositePolicy:
    """The composite policy whose members are admitted by that rule; see CompositePolicy."""
    if isinstance(rule, EvidenceRule):
        return EvidencePolicy(policies, values, rule, eval_epsilon)
    return CompositePolicy(policies, values, rule, eval_epsilon)
