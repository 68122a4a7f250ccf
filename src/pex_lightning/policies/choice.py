"""Rules that choose between the members of a policy set by the value of what they propose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from pex_lightning.policies.temperature import InverseTemperature

ChoiceName = Literal["boltzmann", "greedy", "epsilon_greedy", "uniform"]


class ChoiceRule(nn.Module, ABC):
    """From the values of the members' candidates to a choice between the members."""

    @abstractmethod
    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """P(i|s) for values `[M, B]`: `[B, M]`; each row sums to one.

        Args:
            values: Values of the members' candidates.
            filled: Which places of the set hold a member, `[M]` bool; the others have probability
                0. None if all do.
        """

    def best(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The member that the rule favours most, for values `[M, B]`: `[B]` int64."""
        return self.probs(values, filled).argmax(-1)

    def decide(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The member that acts where nothing is left to chance, for `[M, B]`: `[B]` int64."""
        return self.best(values, filled)

    @property
    def unfinished(self) -> str | None:
        """What still keeps the learning member from being chosen, in words; None by default."""
        return None

    def diagnose(self, values: Tensor, filled: Tensor | None = None) -> Mapping[str, Tensor]:
        """Scalars that say how the rule chooses by values `[M, B]`, by name."""
        return {}


class Boltzmann(ChoiceRule):
    """P(i|s) = softmax_i(inv_temperature · Q(s, a_i)) (PEX, arXiv 2302.00935, eq. 5).

    Args:
        inv_temperature: PEX's α, a number or what follows a schedule or learns; 0 is a uniform
            choice, large is greedy.
    """

    def __init__(self, inv_temperature: float | InverseTemperature) -> None:
        super().__init__()
        self.inv_temperature = inv_temperature

    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The softmax over the members."""
        scale = self.inv_temperature
        if isinstance(scale, InverseTemperature):
            logits = scale.value * values.movedim(0, -1)
        else:
            logits = scale * values.movedim(0, -1)
        if filled is not None:
            logits = logits.masked_fill(~filled, -math.inf)
        return torch.softmax(logits, dim=-1)

    def diagnose(self, values: Tensor, filled: Tensor | None = None) -> Mapping[str, Tensor]:
        """`choice_entropy_fraction`, of log M, and `inv_temperature` where it changes."""
        members = values.shape[0] if filled is None else int(filled.sum())
        found = {}
        if members > 1:
            mean = entropy(self.probs(values, filled)).mean()
            found["choice_entropy_fraction"] = mean / math.log(members)
        if isinstance(self.inv_temperature, InverseTemperature):
            found["inv_temperature"] = self.inv_temperature.value.detach()
        return found


class EpsilonGreedy(ChoiceRule):
    """The member of the largest value, with probability ε any member.

    Args:
        epsilon: ε; 0 is the greedy choice.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """(1 − ε) for the best member, and ε shared by all."""
        if filled is not None:
            values = values.masked_fill(~filled.unsqueeze(-1), -math.inf)
        # `one_hot` reads its input on the host, which compiled code cannot.
        indices = torch.arange(values.shape[0], device=values.device)
        best = (values.argmax(0).unsqueeze(-1) == indices).to(values.dtype)
        return torch.lerp(best, _uniform(values, filled), self.epsilon)


class Uniform(ChoiceRule):
    """Every member with the same probability, whatever its value."""

    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """1 / M."""
        return _uniform(values, filled)

    def best(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """A random member, as none is favoured."""
        return draw(self.probs(values, filled))

    def decide(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The member of the largest value, as the rule favours none."""
        return EpsilonGreedy(0.0).best(values, filled)


def choice_rule(
    name: ChoiceName, inv_temperature: float | InverseTemperature, epsilon: float
) -> ChoiceRule:
    """The rule of that name.

    Args:
        name: `boltzmann`, `greedy`, `epsilon_greedy` or `uniform`.
        inv_temperature: For `boltzmann`.
        epsilon: For `epsilon_greedy`.
    """
    if name == "boltzmann":
        return Boltzmann(inv_temperature)
    if name == "uniform":
        return Uniform()
    return EpsilonGreedy(epsilon if name == "epsilon_greedy" else 0.0)


def _uniform(values: Tensor, filled: Tensor | None) -> Tensor:
    """The same probability for every member, for values `[M, B]`: `[B, M]`."""
    members, batch = values.shape
    if filled is None:
        return values.new_full((batch, members), 1.0 / members)
    return (filled / filled.sum()).to(values.dtype).expand(batch, members)


def draw(probs: Tensor) -> Tensor:
    """Draw a member for each row of `probs` `[B, M]`; returns `[B]` int64.

    Inverse-CDF sampling: unlike `torch.multinomial` it needs no check of its input on the host.
    """
    cumulative = probs.cumsum(-1)
    uniform = torch.rand((*probs.shape[:-1], 1), device=probs.device, dtype=probs.dtype)
    # Rounding can leave the sum a little below one: scaled by it, no draw lies beyond.
    return (cumulative < uniform * cumulative[..., -1:]).sum(-1)


def entropy(probs: Tensor) -> Tensor:
    """Entropy of each row of `probs` `[B, M]`, in nats: `[B]`."""
    terms: Tensor = torch.special.entr(probs)
    return terms.sum(-1)
