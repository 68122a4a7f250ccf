"""The settings of the choice between members, and the modules that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pex_lightning.errors import UserError, check_range
from pex_lightning.nn.critic import Critic, FrozenQ
from pex_lightning.policies.choice import ChoiceName, ChoiceRule, choice_rule
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.temperature import (
    AdaptedTemperature,
    InverseTemperature,
    ScheduledTemperature,
)
from pex_lightning.policies.values import (
    BlendedValues,
    BlendWeight,
    Bound,
    CandidateValues,
    CriticValues,
    LargerValues,
    RobustValues,
)

ValuesName = Literal["online", "blend", "larger"]


@dataclass(frozen=True)
class Choosing:
    """How a composite policy chooses; the defaults are PEX's (arXiv 2302.00935, section 4).

    Attributes:
        rule: `boltzmann`, `greedy`, `epsilon_greedy` or `uniform`.
        inv_temperature: α of the Boltzmann rule.
        inv_temperature_end: If given, α goes there linearly.
        inv_temperature_steps: Gradient steps on the way to `inv_temperature_end`.
        target_entropy: If given, α learns to hold the mean entropy of the choice at this fraction
            of log M.
        epsilon: ε of the ε-greedy rule.
        values: `online` is the critic that learns, `blend` its weighted sum with the offline
            stage's, `larger` the larger of the two.
        blend_steps: Gradient steps over which the weight of the online critic goes from 0 to 1.
        bound: `min`, `mean`, `upper` or `lower`, over the ensemble.
        bound_width: Standard deviations of `upper` and `lower`.
        rpex_scale: Weight of RPEX's term; 0 is without it.

    Raises:
        UserError: A value is outside of its range, or two do not go together.
    """

    rule: ChoiceName = "boltzmann"
    inv_temperature: float = 3.0
    inv_temperature_end: float | None = None
    inv_temperature_steps: int = 0
    target_entropy: float | None = None
    epsilon: float = 0.1
    values: ValuesName = "online"
    blend_steps: int = 0
    bound: Bound = "min"
    bound_width: float = 1.0
    rpex_scale: float = 0.0

    def __post_init__(self) -> None:
        for flag, name, known in (
            ("choice", self.rule, get_args(ChoiceName)),
            ("choice_values", self.values, get_args(ValuesName)),
            ("value_bound", self.bound, get_args(Bound)),
        ):
            check_range(f"--model.{flag}", name, name in known, " or ".join(known))
        for flag, number in (
            ("inv_temperature", self.inv_temperature),
            ("inv_temperature_end", self.inv_temperature_end or 0.0),
            ("inv_temperature_steps", self.inv_temperature_steps),
            ("blend_steps", self.blend_steps),
            ("bound_width", self.bound_width),
            ("rpex_scale", self.rpex_scale),
        ):
            check_range(f"--model.{flag}", number, number >= 0, "0 or more")
        fits = 0.0 <= self.epsilon <= 1.0
        check_range("--model.choice_epsilon", self.epsilon, fits, "between 0 and 1")
        target = self.target_entropy
        fits = target is None or 0.0 < target < 1.0
        check_range("--model.target_entropy", target, fits, "between 0 and 1")
        self._check_temperature()

    @property
    def needs_offline_q(self) -> bool:
        """Whether the Q-functions of the offline stage are kept."""
        return self.values != "online"

    def new_rule(self, members: int) -> ChoiceRule:
        """The rule between `members` members."""
        temperature: float | InverseTemperature = self.inv_temperature
        if self.target_entropy is not None:
            temperature = AdaptedTemperature(self.inv_temperature, self.target_entropy, members)
        elif self.inv_temperature_end is not None:
            end, steps = self.inv_temperature_end, self.inv_temperature_steps
            temperature = ScheduledTemperature(self.inv_temperature, end, steps)
        return choice_rule(self.rule, temperature, self.epsilon)

    def new_values(
        self,
        policies: PolicySet,
        critic: Critic,
        offline_q: FrozenQ | None,
        weight: BlendWeight | None,
    ) -> CandidateValues:
        """The values of candidates.

        Args:
            policies: The policy set.
            critic: The critic that learns.
            offline_q: The offline stage's Q-functions, if `needs_offline_q`.
            weight: The weight of the critic that learns, for `blend`.
        """
        values: CandidateValues = CriticValues(critic, self.bound, self.bound_width)
        if self.needs_offline_q:
            assert offline_q is not None
            offline = CriticValues(offline_q, self.bound, self.bound_width)
            if weight is None:
                values = LargerValues(offline, values)
            else:
                values = BlendedValues(offline, values, weight)
        if self.rpex_scale:
            values = RobustValues(values, critic, policies, self.rpex_scale, self.inv_temperature)
        return values

    def _check_temperature(self) -> None:
        scheduled, adapted = self.inv_temperature_end is not None, self.target_entropy is not None
        if scheduled and adapted:
            raise UserError(
                "--model.inv_temperature_end and --model.target_entropy both say how the inverse "
                "temperature changes; give one of them."
            )
        if (scheduled or adapted) and self.rule != "boltzmann":
            raise UserError(
                f"--model.choice is {self.rule}, which has no inverse temperature to change: leave "
                "out --model.inv_temperature_end and --model.target_entropy, or choose boltzmann."
            )
        if (adapted or self.rpex_scale) and self.inv_temperature <= 0:
            flag = "target_entropy" if adapted else "rpex_scale"
            raise UserError(
                f"--model.inv_temperature is {self.inv_temperature}; with --model.{flag} it must "
                "be above 0."
            )
        if self.rpex_scale and (scheduled or adapted or self.rule != "boltzmann"):
            raise UserError(
                "--model.rpex_scale adds to the logits of a Boltzmann choice of fixed inverse "
                "temperature; leave it out, or the settings that change the choice."
            )
